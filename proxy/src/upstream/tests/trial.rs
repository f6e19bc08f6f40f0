//! Trying an upstream stage by stage, and where it may not be looked for.

use futures::future::FutureExt;
use sql::model::Protocol;
use tokio::net::TcpListener;

use super::peer::Peer;
use super::*;
use crate::upstream::link::Stage;

#[tokio::test]
async fn a_good_upstream_passes_every_stage() {
    let peer = Peer::start(|talk| talk.legacy().boxed()).await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record(&peer.url, Protocol::Auto)).await;
    let stages: Vec<_> = report.stages.iter().map(|stage| (stage.stage, stage.ok)).collect();
    assert!(report.ok, "{report:?}");
    assert_eq!(
        stages,
        [Stage::Resolve, Stage::Connect, Stage::Initialize, Stage::List].map(|stage| (stage, true))
    );
    assert_eq!((report.tools, report.protocol_version.as_deref()), (Some(2), Some("2025-11-25")));
    peer.until("DELETE").await;
    let json = serde_json::to_value(&report).expect("it serialises");
    assert_eq!(json["serverInfo"]["name"], "peer");
}

/// T27: what is forbidden isn't dialled, and the answer doesn't say why in detail.
#[tokio::test]
async fn a_forbidden_address_sees_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (upstreams, _news) = upstreams(Egress::Public);
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"] {
        let report = upstreams.test(&record(&format!("http://{host}:{port}/"), Protocol::Auto)).await;
        let last = report.stages.last().expect("one stage");
        assert_eq!((last.stage, last.ok, report.ok), (Stage::Resolve, false, false), "{host}");
        assert!(!last.reason.as_ref().expect("it says why").contains(host), "{host}: {last:?}");
    }
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn a_redirect_isnt_followed_and_takes_no_credential_along() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = format!("http://{}/", elsewhere.local_addr().expect("it is bound"));
    let peer = Peer::start(move |mut talk| {
        let target = target.clone();
        async move { talk.answer("307 Temporary Redirect", &format!("location: {target}\r\n"), "").await }
            .boxed()
    })
    .await;
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record(&peer.url, Protocol::Auto)).await;
    let last = report.stages.last().expect("it came to one");
    assert_eq!((last.stage, last.ok), (Stage::Initialize, false));
    assert_eq!(
        last.reason.as_deref(),
        Some("the upstream answered with HTTP status 307: redirects are not followed")
    );
    assert!(elsewhere.accept().now_or_never().is_none());
}

#[tokio::test]
async fn the_stage_that_fails_is_the_last_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    drop(listener);
    let (upstreams, _news) = upstreams(Egress::Private);
    let report = upstreams.test(&record(&url, Protocol::Auto)).await;
    let stages: Vec<_> = report.stages.iter().map(|stage| (stage.stage, stage.ok)).collect();
    assert_eq!(stages, [(Stage::Resolve, true), (Stage::Connect, false)]);
}
