//! Dialling: which addresses are tried, in which order, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use super::*;

/// Answers each lookup with the next of its answers, and the last one for ever after.
struct Scripted {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = &self.answers[asked.min(self.answers.len() - 1)];
        let parsed = answer.iter().map(|address| address.parse().expect("a test's address")).collect();
        std::future::ready(Ok(parsed)).boxed()
    }
}

struct Silent;

impl Resolve for Silent {
    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        std::future::pending().boxed()
    }
}

fn dialler(egress: Egress, resolver: Arc<dyn Resolve>) -> Dialler {
    Dialler::with_resolver(egress, watch::channel(Duration::from_secs(30)).1, resolver)
}

fn uri(text: &str) -> Uri {
    text.parse().expect("a test's URI")
}

#[tokio::test]
async fn every_address_of_a_name_must_pass() {
    for bad in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"] {
        let dialler = dialler(Egress::Private, Scripted::new(&[&["8.8.8.8", bad]]));
        let error =
            dialler.resolve(&uri("http://name.test/")).await.expect_err("one of its addresses is forbidden");
        assert_eq!(
            (error.stage, error.reason.as_str()),
            (Stage::Resolve, "the address is not allowed for upstreams")
        );
    }
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let dialler = dialler(Egress::Public, Scripted::new(&[&["8.8.8.8"], &["127.0.0.1"]]));
    let uri = uri(&format!("http://name.test:{port}/"));
    let first = dialler.resolve(&uri).await.expect("a public address");
    assert_eq!(first, ["8.8.8.8".parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).expect("an address")]);
    tokio::time::pause();
    tokio::time::advance(RESOLVED_FOR).await;
    let error = dialler.open(&uri).await.expect_err("now it is a private one");
    assert_eq!(error.stage, Stage::Resolve);
    assert!(listener.accept().now_or_never().is_none(), "no connection was seen");
}

#[tokio::test]
async fn a_literal_is_checked_like_a_name() {
    let resolver = Scripted::new(&[&["8.8.8.8"]]);
    let dialler = dialler(Egress::Public, Arc::clone(&resolver) as Arc<dyn Resolve>);
    for literal in
        ["http://127.0.0.1/", "http://[::1]/", "http://[::ffff:8.8.8.8]/", "http://169.254.169.254/"]
    {
        assert_eq!(
            dialler.open(&uri(literal)).await.expect_err("forbidden").stage,
            Stage::Resolve,
            "{literal}"
        );
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_hangs_is_given_up_and_asked_once() {
    let dialler = dialler(Egress::Private, Arc::new(Silent));
    let target = uri("http://name.test/");
    let (a, b) = tokio::join!(dialler.resolve(&target), dialler.resolve(&target));
    for error in [a, b].map(|outcome| outcome.expect_err("it never answers")) {
        assert_eq!(error.reason, "the name was not resolved in time");
    }
    assert_eq!(dialler.shared.lookups.lock().expect("whole").len(), 1);
}

#[tokio::test]
async fn connects_to_the_address_that_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    // Nobody listens at ::1 on this port.
    let dialler = dialler(Egress::Private, Scripted::new(&[&["::1", "127.0.0.1"]]));
    let stream = dialler.open(&uri(&format!("http://name.test:{port}/"))).await.expect("one of them listens");
    assert!(matches!(stream, MaybeHttpsStream::Http(_)));
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let dialler = dialler(Egress::Private, Arc::new(Silent));
    let error = dialler.open(&uri(&format!("http://127.0.0.1:{port}/"))).await.expect_err("nobody listens");
    assert_eq!((error.stage, error.to_string().as_str()), (Stage::Connect, "the connection was refused"));
}

#[tokio::test]
async fn a_tls_peer_that_stalls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let dialler = dialler(Egress::Private, Arc::new(Silent));
    let uri = uri(&format!("https://127.0.0.1:{port}/"));
    let addresses = dialler.resolve(&uri).await.expect("a literal");
    let stream = dialler.connect(&addresses).await.expect("it listens");
    tokio::time::pause();
    let error = dialler.secure(&uri, stream).await.expect_err("it never answers");
    assert_eq!(
        (error.stage, error.to_string().as_str()),
        (Stage::Tls, "the TLS handshake was not finished in time")
    );
}

#[tokio::test]
async fn a_peer_without_tls_is_named() {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let dialler = dialler(Egress::Private, Arc::new(Silent));
    let uri = uri(&format!("https://127.0.0.1:{port}/"));
    let peer = async {
        let (mut stream, _) = listener.accept().await.expect("it is dialled");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it is open");
        stream
    };
    let (outcome, _stream) = tokio::join!(dialler.open(&uri), peer);
    let error = outcome.expect_err("not TLS");
    assert_eq!((error.stage, error.to_string().as_str()), (Stage::Tls, "the TLS handshake failed"));
}

#[test]
fn a_reason_is_found_however_deep_it_lies() {
    let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let once = io::Error::new(io::ErrorKind::InvalidData, unknown());
    for error in [once, io::Error::other(io::Error::other(unknown()))] {
        assert_eq!(tls_reason(&error), "the certificate's issuer is unknown");
    }
    assert_eq!(tls_reason(&io::Error::from(io::ErrorKind::UnexpectedEof)), "the TLS handshake failed");
}
