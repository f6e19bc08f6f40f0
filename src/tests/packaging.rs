//! What the gateway is shipped in: images, compose, Kubernetes, systemd, workflows. No container engine is needed
//! for these, so they hold what a linter would, and what the files promise one another.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::harness::TestGateway;

/// How long the gateway may take to say something to its manager.
const TOLD_MAX: Duration = Duration::from_secs(30);

fn text(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document of a YAML file, with its merge keys applied.
fn yaml(path: &str) -> Vec<Value> {
    let text = text(path);
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| {
            let mut value = Value::deserialize(document).unwrap_or_else(|error| panic!("{path}: {error}"));
            value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
            value
        })
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

#[test]
fn both_images_run_without_rights_and_ask_the_binary_whether_it_lives() {
    let file = text("Dockerfile");
    let stages: Vec<&str> = file.split("\nFROM ").skip(1).collect();
    assert!(
        stages.last().is_some_and(|last| last.starts_with("gcr.io/distroless/")),
        "the default is distroless"
    );
    for stage in stages.iter().filter(|stage| stage.contains("ENTRYPOINT")) {
        for line in [
            "USER 65532:65532",
            "VOLUME /data",
            "STOPSIGNAL SIGTERM",
            r#"CMD ["/mcp-proxy-gateway", "healthcheck"]"#,
            r#"ENTRYPOINT ["/mcp-proxy-gateway"]"#,
        ] {
            assert!(stage.contains(line), "{line} is missing:\n{stage}");
        }
    }
    assert_eq!(stages.iter().filter(|stage| stage.contains("ENTRYPOINT")).count(), 2);
    for stage in &stages {
        let image = stage.split_whitespace().next().unwrap_or_default();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{image} is not pinned");
    }
    // What the build copies is what the folder sent to the builder has.
    let sent = text(".dockerignore");
    let copied =
        file.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|rest| !rest.starts_with("--"));
    for path in copied.flat_map(|rest| {
        let words: Vec<&str> = rest.split_whitespace().collect();
        words[..words.len() - 1].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
    }) {
        let top = path.split('/').next().unwrap_or_default();
        assert!(sent.lines().any(|line| line == format!("!{top}")), "{path} isn't sent to the builder");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists(), "{path} isn't there");
    }
}

#[test]
fn the_toolchain_of_the_image_is_new_enough() {
    let of = |text: &str, before: &str| -> Vec<u32> {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before}"));
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        version.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let wanted = of(&text("Cargo.toml"), "rust-version = \"");
    for path in ["Dockerfile", ".github/workflows/ci.yml", ".github/workflows/release.yml"] {
        assert!(of(&text(path), "rust:") >= wanted, "{path} builds with an older Rust");
    }
}

#[test]
fn compose_gives_secrets_as_files_and_waits_for_what_is_healthy() {
    let documents = yaml("docker-compose.yml");
    let services = documents[0]["services"].as_mapping().unwrap();
    let declared: BTreeSet<&str> =
        documents[0]["secrets"].as_mapping().unwrap().keys().filter_map(Value::as_str).collect();
    let mut used = BTreeSet::new();
    for (name, service) in services {
        let name = name.as_str().unwrap();
        assert!(service["healthcheck"]["test"].is_sequence(), "{name} has no health check");
        for (variable, value) in service["environment"].as_mapping().into_iter().flatten() {
            let variable = variable.as_str().unwrap();
            let is_secret = ["PASSWORD", "_KEY", "DSN"].iter().any(|word| variable.contains(word));
            assert!(!is_secret || variable.ends_with("_FILE"), "{name} has {variable} in the clear");
            if let Some(secret) = value.as_str().and_then(|path| path.strip_prefix("/run/secrets/")) {
                assert!(
                    texts(&service["secrets"]).contains(&secret.to_owned()),
                    "{name} isn't given {secret}"
                );
            }
        }
        for secret in texts(&service["secrets"]) {
            assert!(declared.contains(secret.as_str()), "{secret} isn't declared");
            used.insert(secret);
        }
        if name == "gateway" || name == "single" {
            assert_eq!(service["read_only"], Value::Bool(true), "{name}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
            assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        }
    }
    assert_eq!(used.len(), declared.len(), "a secret is declared and not used");
    assert_eq!(services["gateway"]["depends_on"]["postgres"]["condition"].as_str(), Some("service_healthy"));
    assert_eq!(services["gateway"]["depends_on"]["redis"]["condition"].as_str(), Some("service_healthy"));
    assert!(services["postgres"]["image"].as_str().unwrap().starts_with("postgres:16"));
    assert!(services["redis"]["image"].as_str().unwrap().starts_with("redis:7"));
    // The one that needs none of it.
    assert_eq!(texts(&services["single"]["profiles"]), ["single"]);
    assert!(services["single"]["secrets"].is_null() && services["single"]["depends_on"].is_null());
}

#[test]
fn pods_run_without_rights_and_probe_what_there_is() {
    let documents = yaml("examples/kubernetes/gateway.yaml");
    let kinds: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["ConfigMap", "ServiceAccount", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"]
    );
    for document in &documents {
        assert!(document["apiVersion"].is_string());
        assert_eq!(document["metadata"]["name"].as_str(), Some("mcp-proxy-gateway"));
        assert!(document["kind"].as_str() != Some("Secret"), "a secret is in the manifests");
    }
    let spec = &documents[2]["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(&spec["selector"]["matchLabels"], labels);
    assert_eq!(&documents[3]["spec"]["selector"], labels);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::Bool(true));
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], Value::Bool(true));
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], Value::Bool(false));
    assert!(!container["image"].as_str().unwrap().ends_with(":latest"));
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path), "{probe}");
    }
    // Each file of a secret is where the variables say.
    let mounted =
        container["volumeMounts"].as_sequence().unwrap().iter().find(|one| one["name"] == "secrets").unwrap();
    let folder = mounted["mountPath"].as_str().unwrap();
    let data = documents[0]["data"].as_mapping().unwrap();
    let files = data.iter().filter(|(name, _)| name.as_str().is_some_and(|name| name.ends_with("_FILE")));
    for (name, path) in files {
        assert!(path.as_str().unwrap().starts_with(folder), "{name:?}");
    }
    // Only known variables: an unknown one stops the start.
    let known = text("src/config/variables.rs");
    for name in data.keys().filter_map(Value::as_str) {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        assert!(known.contains(&format!("\"{plain}\"")), "{name} is no variable of the gateway");
    }
}

#[test]
fn the_unit_is_notified_and_walled_in() {
    let unit = text("examples/systemd/mcp-proxy-gateway.service");
    for line in [
        "Type=notify",
        "NoNewPrivileges=yes",
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line} is missing");
    }
    assert!(unit.contains("RestartPreventExitStatus=78"), "a wrong configuration is tried for ever");
}

#[test]
fn a_release_is_by_hand_after_the_gate_for_both_architectures() {
    let release = &yaml(".github/workflows/release.yml")[0];
    let triggers: Vec<&str> = release["on"].as_mapping().unwrap().keys().filter_map(Value::as_str).collect();
    assert_eq!(triggers, ["workflow_dispatch"]);
    let jobs = &release["jobs"];
    assert!(texts(&jobs["image"]["needs"]).contains(&"quality".to_owned()));
    assert_eq!(texts(&jobs["publish"]["needs"]), ["version", "image"]);
    let whole = text(".github/workflows/release.yml");
    for part in [
        "TZ=Asia/Shanghai date +%Y%m%d%H%M",
        "bash .ci/run",
        "linux/amd64",
        "linux/arm64",
        "\"$VERSION\" latest",
        "gh release create \"v$VERSION\"",
        "cosign sign",
        "sbom",
        "secrets.DOCKERHUB_USERNAME",
        "secrets.DOCKERHUB_TOKEN",
    ] {
        assert!(whole.contains(part), "{part} is missing");
    }
    let secrets: BTreeSet<&str> = whole
        .split("secrets.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap_or_default())
        .collect();
    assert_eq!(secrets, BTreeSet::from(["DOCKERHUB_TOKEN", "DOCKERHUB_USERNAME"]));
    assert!(text(".github/workflows/ci.yml").contains("bash .ci/run"));
}

/// systemd's protocol, spoken for real.
#[tokio::test]
async fn the_service_manager_is_told_when_it_serves_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TOLD_MAX)).unwrap();
    let mut gateway = TestGateway::start()
        .alone("a manager starts one process")
        .with_env("NOTIFY_SOCKET", path.to_str().unwrap())
        .await;
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(told().lines().any(|line| line == "READY=1"));
    gateway.terminate().await;
    assert!(told().lines().any(|line| line == "STOPPING=1"));
}
