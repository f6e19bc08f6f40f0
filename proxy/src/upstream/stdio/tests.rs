//! Links to real processes: what they send, how they misbehave, and that nothing of them stays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sql::model::{NewUpstream, Timestamp, Transport, UpstreamId, Value};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::downstream::conversation::{Outbound, Outbox, Owner};
use crate::tasks::Tasks;
use crate::upstream::channel::tests::{Heard, call};
use crate::upstream::link::Roots;
use crate::upstream::supervise::tests::{Mark, supervisor};

/// Longer than any deadline of the product, so that only a failing test meets it.
const PATIENCE: Duration = Duration::from_secs(30);

const ALICE: Owner = Owner(Uuid::from_u128(1));
const BOB: Owner = Owner(Uuid::from_u128(2));

/// A server that does what the method it is called with says.
const PEER: &str = r#"
import json, os, signal, sys, time

def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def send(**message):
    say(json.dumps({"jsonrpc": "2.0", **message}))

parked = []
for line in sys.stdin:
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if method == "echo":
        send(id=id, result={"line": line, "args": sys.argv[1:], "cwd": os.getcwd()})
    elif method == "progress":
        token = message["params"]["_meta"]["progressToken"]
        for at in range(1, 101):
            send(method="notifications/progress", params={"progressToken": token, "progress": at})
        send(id=id, result={})
    elif method == "ask":
        send(id="question", method="sampling/createMessage", params={"of": "me"})
        answer = json.loads(sys.stdin.readline())
        send(id=id, result=answer)
    elif method == "park":
        parked.append(id)
    elif method == "junk":
        say("Server starting ...")
        say("")
        say("{ not JSON")
        say('"JSON, but no message"')
        send(id=id, result={})
    elif method == "long":
        say('{"jsonrpc":"2.0","id":%d,"result":{"text":"%s"}}' % (id, "x" * message["params"]["bytes"]))
    elif method == "log":
        sys.stderr.write("a line on stderr\n")
        sys.stderr.flush()
        send(id=id, result={})
    elif method == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        send(id=id, result={})
        while True:
            time.sleep(1)
    elif method == "crash":
        os._exit(3)
"#;

/// One upstream and everything that belongs to it.
struct Scene {
    link: Arc<dyn Link>,
    heard: Arc<Heard>,
    mark: Mark,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

fn launcher(policy: StdioPolicy) -> Launcher {
    let (supervisor, words) = supervisor();
    let environment = BaseEnvironment::from_lookup(|name| match name {
        "PATH" => std::env::var_os(name),
        "LANG" => Some("C.UTF-8".into()),
        _ => None,
    });
    Launcher { supervisor, words, policy, environment }
}

fn upstream(mark: &Mark, command: &str, args: &[&str]) -> Upstream {
    let env = BTreeMap::from([
        (Mark::NAME.to_owned(), Value::Plain(mark.value().to_owned())),
        ("TOKEN".to_owned(), Value::Secret("Bearer ${credential}".into())),
    ]);
    let args = args.iter().map(|arg| Value::Plain((*arg).to_owned())).collect();
    let params = ConnParams::Stdio { command: command.into(), args, env, cwd: Some("/".into()) };
    let new = NewUpstream {
        credential: Some("s3cret".into()),
        ..NewUpstream::named("peer", Transport::Stdio, params)
    };
    Upstream::create(new, UpstreamId::from_uuid(Uuid::nil()), Timestamp::from_millis(0))
}

fn wiring() -> (Wiring, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let listener = Arc::clone(&heard) as Arc<dyn Listener>;
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    (Wiring { tasks, listener, roots: Roots::Undeclared, pass: Arc::default() }, heard)
}

impl Scene {
    /// The peer, started by a command in which `PEER` stands for its file.
    async fn of(command: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("peer.py");
        std::fs::write(&file, PEER).expect("it is writable");
        let file = file.to_str().expect("a plain path");
        let command: Vec<String> = command.iter().map(|word| word.replace("PEER", file)).collect();
        let words: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        let mark = Mark::new();
        let (wiring, heard) = wiring();
        let tasks = wiring.tasks.clone();
        let opened =
            open(&upstream(&mark, &command[0], &words), &launcher(StdioPolicy::default()), wiring).await;
        let link = opened.unwrap_or_else(|error| panic!("{error}"));
        Self { link, heard, mark, tasks, _directory: directory }
    }

    async fn peer() -> Self {
        Self::of(&["python3", "PEER"]).await
    }

    /// A call that is written before this returns, as far as a queue can tell.
    fn start(&self, call: Call) -> tokio::task::JoinHandle<Result<Answer, CallError>> {
        let link = Arc::clone(&self.link);
        self.tasks.spawn("call", async move { link.request(call).await })
    }

    async fn ask(&self, method: &'static str, params: &Json) -> Json {
        self.run(call(ALICE, method, params).0).await
    }

    async fn run(&self, call: Call) -> Json {
        let answer = timeout(PATIENCE, self.link.request(call)).await.expect("it ends").expect("an answer");
        let (Answer::Result(body) | Answer::Error(body)) = answer;
        serde_json::from_slice(&body).expect("JSON")
    }

    async fn fail(&self, call: Call) -> CallError {
        timeout(PATIENCE, self.link.request(call)).await.expect("it ends").expect_err("no answer comes")
    }

    async fn lost_within(&self, limit: Duration) {
        timeout(limit, self.link.closed().cancelled()).await.expect("the loss is noticed");
    }

    /// Closes the link; nothing of it may stay, no process and no task. Gives how long it took.
    async fn close(self) -> Duration {
        let started = Instant::now();
        timeout(PATIENCE, self.link.close()).await.expect("closing is bounded");
        let took = started.elapsed();
        assert!(self.mark.alive().is_empty(), "{:?}", self.mark.alive());
        timeout(PATIENCE, self.tasks.stop()).await.expect("all tasks end");
        took
    }
}

/// Not a test of its own: a process that owns a link until it is killed.
#[test]
fn owner() {
    let args: Vec<String> = std::env::args().collect();
    let Some(at) = args.iter().position(|word| word == "--") else { return };
    let (mark, words) = (Mark::known(&args[at + 1]), &args[at + 2..]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let upstream = upstream(&mark, words[0], &words[1..]);
        let _link = open(&upstream, &launcher(StdioPolicy::default()), wiring().0).await;
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_gets_its_arguments_and_one_line_a_message() {
    let scene = Scene::of(&["python3", "PEER", ";$(id)", "two words", "${credential}"]).await;
    let (pretty, _outbox) = call(ALICE, "echo", &json!({}));
    let pretty = Call { params: "{\n \"a\\nb\" :\r\n 1.0\n}".into(), ..pretty };
    let echo = scene.run(pretty).await;
    assert_eq!(echo["args"], json!([";$(id)", "two words", "s3cret"]));
    assert_eq!(echo["cwd"], "/");
    let line = echo["line"].as_str().expect("a line");
    assert!(line.ends_with("\"params\":{  \"a\\nb\" :   1.0 }}\n"), "{line}");
    assert!(scene.close().await < Duration::from_secs(2), "the end of stdin ends a server");
}

#[tokio::test(flavor = "multi_thread")]
async fn t19_a_child_sees_nothing_of_the_gateways_environment() {
    let scene = Scene::of(&["env"]).await;
    scene.lost_within(PATIENCE).await;
    let path = format!("PATH={}", std::env::var("PATH").expect("tests run with one"));
    let mark = format!("{}={}", Mark::NAME, scene.mark.value());
    let mut expected = ["LANG=C.UTF-8", &path, &mark, "TOKEN=Bearer s3cret"].map(str::to_owned);
    expected.sort();
    let mut shown = scene.link.stderr();
    shown.retain(|line| line.contains('='));
    shown.sort();
    assert_eq!(shown, expected);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_in_order_and_before_the_answer() {
    let scene = Scene::peer().await;
    let (with_token, mut outbox) = call(ALICE, "progress", &json!({"_meta": {"progressToken": "mine"}}));
    scene.run(with_token).await;
    for at in 1..=100 {
        let Some(Outbound::Notification { params: Some(params), .. }) = outbox.next_ready() else {
            panic!("all are there when the answer is")
        };
        let params: Json = serde_json::from_slice(&params).expect("JSON");
        assert_eq!(params, json!({"progressToken": "mine", "progress": at}));
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_its_one_client() {
    let scene = Scene::peer().await;
    let (asking, mut outbox) = call(ALICE, "ask", &json!({}));
    let running = scene.start(asking);
    let answer = |outbox: &mut Outbox| match outbox.next_ready() {
        Some(Outbound::Ask(ask)) => Some(ask),
        _ => None,
    };
    let ask = loop {
        if let Some(ask) = answer(&mut outbox) {
            break ask;
        }
        tokio::task::yield_now().await;
        assert!(!running.is_finished(), "it waits");
    };
    ask.reply.send(Ok(Answer::Result(r#"{"said":"yes"}"#.into()))).expect("it waits");
    let answer = timeout(PATIENCE, running).await.expect("it ends").expect("no panic").expect("an answer");
    assert_eq!(
        answer,
        Answer::Result(r#"{"jsonrpc": "2.0", "id": "question", "result": {"said": "yes"}}"#.into())
    );
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t20_a_server_that_two_clients_share_cannot_ask_either() {
    let scene = Scene::peer().await;
    let (parked, mut to_bob) = call(BOB, "park", &json!({}));
    let parked = scene.start(parked);
    scene.ask("log", &json!({})).await; // Lines are in order, so the parked call was read.
    let (asking, mut to_alice) = call(ALICE, "ask", &json!({}));
    let answer = scene.run(asking).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert_eq!(scene.heard.count(Dropped::Unattributed), 1);
    assert!(to_alice.next_ready().is_none() && to_bob.next_ready().is_none());
    parked.abort();
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_lines_that_are_no_messages_are_dropped_counted_and_shown() {
    let scene = Scene::peer().await;
    scene.ask("log", &json!({})).await;
    let before = scene.heard.count(Dropped::Garbage); // What the test binary says as it starts.
    scene.ask("junk", &json!({})).await;
    assert_eq!(scene.heard.count(Dropped::Garbage) - before, 3);
    let shown = scene.link.stderr();
    for line in ["a line on stderr", "Server starting ...", "{ not JSON", "\"JSON, but no message\""] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:?}");
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t30_a_line_beyond_the_limit_breaks_the_connection_and_says_why() {
    let scene = Scene::peer().await;
    let large = |bytes: usize| {
        let (large, outbox) = call(ALICE, "long", &json!({"bytes": bytes}));
        (Call { response_bytes_max: usize::MAX, ..large }, outbox)
    };
    let answer = scene.run(large(LINE_BYTES_MAX - 1024).0).await;
    assert_eq!(answer["text"].as_str().map(str::len), Some(LINE_BYTES_MAX - 1024));
    assert!(matches!(scene.fail(large(20 * 1024 * 1024).0).await, CallError::ClosedMidCall));
    scene.lost_within(Duration::from_secs(1)).await;
    let shown = scene.link.stderr();
    assert!(shown.iter().any(|line| line == "[a line is longer than 16777216 bytes]"), "{shown:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_a_child_that_never_reads_loses_the_link() {
    let scene = Scene::of(&["sleep", "991"]).await;
    let more_than_a_pipe_holds = json!({"text": "x".repeat(1024 * 1024)});
    let error = scene.fail(call(ALICE, "echo", &more_than_a_pipe_holds).0).await;
    assert!(matches!(error, CallError::ClosedMidCall));
    assert!(scene.link.closed().is_cancelled());
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_a_child_that_ignores_sigterm_is_killed() {
    let scene = Scene::peer().await;
    scene.ask("stubborn", &json!({})).await;
    let took = scene.close().await;
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(7), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_what_a_child_forked_goes_with_it() {
    let script = "sleep 991 & setsid sh -c 'sleep 992; sleep 993' & exec python3 PEER";
    let scene = Scene::of(&["sh", "-c", script]).await;
    scene.ask("echo", &json!({})).await;
    assert!(scene.mark.alive().len() >= 4);
    assert!(scene.close().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_floods_beside_the_messages_do_no_harm() {
    let scene = Scene::of(&["sh", "-c", "yes >&2 & exec python3 PEER"]).await;
    for _ in 0..20 {
        scene.ask("echo", &json!({})).await;
    }
    let shown = scene.link.stderr();
    assert!(shown.iter().map(String::len).sum::<usize>() <= 64 * 1024);
    scene.close().await;
    let scene = Scene::of(&["yes"]).await;
    let waiting = Call { idle_timeout: Duration::from_millis(300), ..call(ALICE, "echo", &json!({})).0 };
    assert!(matches!(scene.fail(waiting).await, CallError::TimedOut { .. }));
    assert!(scene.heard.count(Dropped::Garbage) > 0);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_crash_ends_the_calls_within_a_second() {
    // The second holds stdout and stderr open in a grandchild that would outlive the server.
    for command in [&["python3", "PEER"][..], &["sh", "-c", "sleep 991 & exec python3 PEER"]] {
        let scene = Scene::of(command).await;
        let parked = scene.start(call(ALICE, "park", &json!({})).0);
        scene.ask("echo", &json!({})).await;
        let started = Instant::now();
        assert!(matches!(scene.fail(call(ALICE, "crash", &json!({})).0).await, CallError::ClosedMidCall));
        let parked = timeout(PATIENCE, parked).await.expect("it ends").expect("no panic");
        assert!(matches!(parked, Err(CallError::ClosedMidCall)));
        assert!(started.elapsed() < Duration::from_secs(1));
        scene.lost_within(Duration::from_secs(1)).await;
        let refused = scene.fail(call(ALICE, "echo", &json!({})).0).await;
        assert!(matches!(refused, CallError::Unavailable { .. }));
        let link = Arc::clone(&scene.link);
        scene.close().await;
        let shown = link.stderr();
        assert_eq!(shown.last().map(String::as_str), Some("[the process ended with exit code 3]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_a_killed_gateway_leaves_nothing() {
    let mark = Mark::new();
    let script = "trap '' TERM; setsid sh -c 'sleep 992; sleep 993' & sh -c 'sleep 991; :'";
    let mut owner = std::process::Command::new(std::env::current_exe().expect("a running binary"))
        .args(["--exact", "upstream::stdio::tests::owner", "--nocapture", "--", mark.value()])
        .args(["sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("this binary starts");
    for part in ["sleep 991", "sleep 992"] {
        mark.wait_for(part);
    }
    owner.kill().expect("it lives");
    mark.wait_for_none(Duration::from_secs(1));
    owner.wait().expect("it was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_is_a_loss_and_leaves_nothing_of_its_session() {
    let scene = Scene::of(&["sh", "-c", "sleep 991 & exec python3 PEER"]).await;
    scene.ask("echo", &json!({})).await;
    let own = std::env::current_exe().expect("a running binary");
    let supervisor = scene.mark.wait_for(own.to_str().expect("a plain path"));
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).expect("it lives");
    scene.lost_within(Duration::from_secs(1)).await;
    scene.mark.wait_for_none(Duration::from_secs(1));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_dropped_or_whose_tasks_stop_ends_its_child() {
    let scene = Scene::peer().await;
    scene.ask("echo", &json!({})).await;
    drop(scene.link);
    scene.mark.wait_for_none(PATIENCE);
    timeout(PATIENCE, scene.tasks.stop()).await.expect("all tasks end");

    let scene = Scene::peer().await;
    scene.ask("echo", &json!({})).await;
    timeout(PATIENCE, scene.tasks.stop()).await.expect("all tasks end");
    assert!(scene.mark.alive().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn t26_what_may_not_be_started_is_refused_again_at_the_start() {
    let refusal = async |spec: &Upstream, policy: StdioPolicy| {
        let opened = open(spec, &launcher(policy), wiring().0).await;
        let error = opened.err().expect("it isn't started");
        assert_eq!(error.stage, Stage::Resolve);
        error.reason
    };
    let mark = Mark::new();
    let any = StdioPolicy::default;
    let sh = upstream(&mark, "sh", &[]);
    let listed = StdioPolicy { commands: Some(vec!["npx".into()]), ..any() };
    assert!(refusal(&sh, listed).await.contains("MPG_STDIO_COMMANDS"));
    let off = StdioPolicy { enabled: false, ..any() };
    assert!(refusal(&sh, off).await.contains("MPG_STDIO_ENABLED"));
    let missing = upstream(&mark, "no-such-program", &[]);
    assert_eq!(refusal(&missing, any()).await, "there is no program `no-such-program`");
    let mut elsewhere = sh.clone();
    if let ConnParams::Stdio { cwd, .. } = &mut elsewhere.conn_params {
        *cwd = Some("/no/such/directory".into());
    }
    assert_eq!(refusal(&elsewhere, any()).await, "its working directory doesn't exist");
    let without = Upstream { credential: None, ..sh.clone() };
    assert!(refusal(&without, any()).await.contains("no credential is set"));
    let mut preload = sh;
    if let ConnParams::Stdio { env, .. } = &mut preload.conn_params {
        env.insert("LD_PRELOAD".into(), Value::Plain("/tmp/x.so".into()));
    }
    assert!(refusal(&preload, any()).await.contains("LD_PRELOAD"));
    assert!(mark.alive().is_empty());
}
