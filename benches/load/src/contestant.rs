//! Who stands side by side: how each is started, and how clients come in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::message::Era;
use crate::process::{Process, output};

/// From its start to its first right answer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How one is started. In every text `{port}` is a free port for it to listen at, `{upstream}` the
/// upstream's address, `{dir}` a folder of its own, and `{threads}` how many threads it should have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What it is called in the table.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment, besides ours.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files that are written for it, by their name in `{dir}`.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Where clients of the legacy era come in; not at all, without.
    pub legacy: Option<Door>,
    /// Where clients of 2026-07-28 come in; not at all, without.
    pub modern: Option<Door>,
}

/// How clients of one era come in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// The endpoint.
    pub url: String,
    /// Headers of every request.
    #[serde(default)]
    pub headers: Vec<String>,
    /// What stands before the upstream's names of tools.
    #[serde(default)]
    pub prefix: String,
}

/// A file of further ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipes {
    gateway: Vec<Recipe>,
}

/// One that runs.
pub struct Contestant {
    /// What it is called in the table.
    pub name: String,
    process: Process,
    legacy: Option<Door>,
    modern: Option<Door>,
}

/// What all are started with.
pub struct Stage {
    /// The upstream's address.
    pub upstream: SocketAddr,
    /// A folder for their files.
    pub dir: PathBuf,
    /// Threads of each.
    pub threads: usize,
    /// The load generator, which finds out when one is ready.
    pub load: PathBuf,
}

impl Recipe {
    /// The ones in a TOML file.
    pub fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let recipes: Recipes = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        Ok(recipes.gateway)
    }

    /// Starts it, and waits until it answers rightly.
    pub fn start(self, stage: &Stage) -> anyhow::Result<Contestant> {
        let dir = stage.dir.join(self.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
        fs::create_dir_all(&dir)?;
        let port = free_port()?.to_string();
        let filled = |text: &str| {
            text.replace("{port}", &port)
                .replace("{upstream}", &stage.upstream.to_string())
                .replace("{dir}", &dir.to_string_lossy())
                .replace("{threads}", &stage.threads.to_string())
        };
        for (name, text) in &self.files {
            fs::write(dir.join(name), filled(text))?;
        }
        let door = |door: Door| Door {
            url: filled(&door.url),
            headers: door.headers.iter().map(|header| filled(header)).collect(),
            prefix: door.prefix,
        };
        let (program, arguments) = self.command.split_first().context("a gateway without a command")?;
        let mut command = Command::new(filled(program));
        command.args(arguments.iter().map(|argument| filled(argument)));
        command.envs(self.env.iter().map(|(name, value)| (name, filled(value))));
        let log = dir.join("log");
        let process = Process::start(&mut command, &log)?;
        let mut contestant = Contestant {
            name: self.name,
            process,
            legacy: self.legacy.map(door),
            modern: self.modern.map(door),
        };
        contestant.wait(stage).with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{} doesn't answer; it said: {said}", contestant.name)
        })?;
        Ok(contestant)
    }
}

impl Contestant {
    /// The upstream itself, so that it is seen what the others add.
    pub fn direct(upstream: SocketAddr, process: Process) -> Self {
        let door = Door { url: format!("http://{upstream}/mcp"), headers: Vec::new(), prefix: String::new() };
        Self { name: "direct".into(), process, legacy: Some(door.clone()), modern: Some(door) }
    }

    /// Where clients of an era come in.
    pub fn door(&self, era: Era) -> Option<&Door> {
        match era {
            Era::Legacy => self.legacy.as_ref(),
            Era::Modern => self.modern.as_ref(),
        }
    }

    /// Its program.
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn wait(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        for era in [Era::Legacy, Era::Modern] {
            let Some(door) = self.door(era).cloned() else { continue };
            loop {
                let mut command = door.load(&stage.load, era);
                command.args(["--hold", "--connections", "1", "--tool", &format!("{}echo", door.prefix)]);
                let Err(error) = output(&mut command) else { break };
                if self.process.has_ended() {
                    bail!("it ended");
                }
                if Instant::now() > deadline {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Door {
    /// The load generator, told where to go.
    pub fn load(&self, load: &Path, era: Era) -> Command {
        let mut command = Command::new(load);
        let era = match era {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        };
        command.args(["--url", &self.url, "--era", era]);
        for header in &self.headers {
            command.args(["--header", header]);
        }
        command
    }
}

/// nginx as a plain proxy that keeps its connections.
pub fn nginx() -> Recipe {
    let conf = "daemon off;\nmaster_process on;\nworker_processes {threads};\npid {dir}/pid;\nerror_log stderr error;\n\
        events { worker_connections 4096; }\n\
        http {\n  access_log off;\n  keepalive_requests 100000000;\n  keepalive_timeout 600s;\n  tcp_nodelay on;\n  \
        client_max_body_size 64m;\n  client_body_buffer_size 1m;\n  proxy_buffers 16 64k;\n  \
        client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n  \
        uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  \
        upstream mcp { server {upstream}; keepalive 1024; keepalive_requests 100000000; }\n  \
        server {\n    listen 127.0.0.1:{port};\n    location / {\n      proxy_pass http://mcp;\n      \
        proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }\n  }\n}\n";
    Recipe {
        name: "nginx".into(),
        command: ["nginx", "-p", "{dir}", "-c", "{dir}/nginx.conf"].map(Into::into).into(),
        env: BTreeMap::new(),
        files: [("nginx.conf".into(), conf.into())].into(),
        legacy: Some(plain_door()),
        modern: Some(plain_door()),
    }
}

/// A plain proxy made of the same framework as the gateway.
pub fn plain(binary: &Path) -> Recipe {
    let command = ["--listen", "127.0.0.1:{port}", "--upstream", "{upstream}", "--threads", "{threads}"];
    Recipe {
        name: "plain Pingora proxy".into(),
        command: [binary.to_string_lossy().into_owned()].into_iter().chain(command.map(Into::into)).collect(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        legacy: Some(plain_door()),
        modern: Some(plain_door()),
    }
}

/// The gateway with all that it does for a call: a key, a limit, rules, statistics. Each era of clients has
/// a key that sees the upstream in the same era, and so the same bytes pass as through the others.
pub fn gateway(binary: &Path, log: &str) -> Recipe {
    let key = |era: &str| format!("mpg_{era}_Zk3v9Qx1LrT7_ybW0nPdCu5HsJ8aGf2EoMi4");
    let keys = [key("legacy"), key("modern")].map(|key| format!("{key:x<47}"));
    let mut file = String::from("upstreams:\n");
    for era in ["legacy", "modern"] {
        let _ = writeln!(
            file,
            "  - {{name: {era}, transport: streamable-http, protocol: {era}, namePrefix: {era}_, connParams: {{url: \"http://{{upstream}}/mcp\"}}}}"
        );
    }
    file += "keys:\n";
    for (era, key) in ["legacy", "modern"].into_iter().zip(&keys) {
        let _ = writeln!(
            file,
            "  - {{name: {era}, key: {key}, upstreams: [{era}], rateLimit: {{limit: 1000000, windowS: 1}}}}"
        );
    }
    let door = |era: &str, key: &str| Door {
        url: "http://127.0.0.1:{port}/mcp".into(),
        headers: vec![format!("Authorization: Bearer {key}")],
        prefix: format!("{era}_"),
    };
    Recipe {
        name: "MCP Proxy Gateway".into(),
        command: vec![
            binary.to_string_lossy().into_owned(),
            "serve".into(),
            "--bootstrap".into(),
            "{dir}/gateway.yaml".into(),
        ],
        env: [
            ("MPG_LISTEN".into(), "127.0.0.1:{port}".into()),
            ("MPG_DATA_DIR".into(), "{dir}/data".into()),
            ("MPG_LOG".into(), log.into()),
        ]
        .into(),
        files: [("gateway.yaml".into(), file)].into(),
        legacy: Some(door("legacy", &keys[0])),
        modern: Some(door("modern", &keys[1])),
    }
}

fn plain_door() -> Door {
    Door { url: "http://127.0.0.1:{port}/mcp".into(), headers: Vec::new(), prefix: String::new() }
}

/// A port that nobody listens at. Somebody may take it before its user does; then that one says so.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_adds_any_gateway() {
        let text = r#"
            [[gateway]]
            name = "other"
            command = ["other", "--config", "{dir}/config.yaml"]
            env = { LOG = "off" }
            files = { "config.yaml" = "listen: {port}\nupstream: {upstream}\n" }
            legacy = { url = "http://127.0.0.1:{port}/mcp", headers = ["X-Key: a"], prefix = "bench_" }
        "#;
        let recipes: Recipes = toml::from_str(text).unwrap();
        let [recipe] = &recipes.gateway[..] else { panic!("there is one") };
        assert_eq!(recipe.command[0], "other");
        assert!(recipe.modern.is_none());
        assert_eq!(recipe.legacy.as_ref().unwrap().prefix, "bench_");
    }
}
