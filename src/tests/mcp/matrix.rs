//! Every revision of a client with every revision of a server, on every transport of both: what they can
//! have to do with each other through one gateway.
//!
//! A server is a lane with a key of its own, which sees that server and no other: the lanes run side by
//! side, and the clients of one come one after the other, so that what is told of is their own doing. The
//! result is a document, which must be what is checked in.

mod cells;
mod client;
mod expected;
mod servers;
mod table;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use tokio::task::JoinSet;

use self::cells::{FEATURES, Feature};
use self::client::{Client, Outcome};
use self::servers::Server;
use self::table::Measured;
use crate::harness::TestGateway;

/// The transports of clients, in the order of the document.
const CLIENT_TRANSPORTS: [&str; 3] = ["http", "sse", "ws"];

/// What no cell needs: it only turns a hang into a failure of that cell.
const CELL_PATIENCE: Duration = Duration::from_mins(1);

/// Where the document is.
const DOCUMENT: &str = ".github/MATRIX.md";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_revision_works_with_every_other_but_for_what_is_impossible() {
    let listening = servers::start();
    let gateway = Arc::new(servers::gateway(&listening).await);
    let admin = gateway.admin().await;
    let mut lanes = JoinSet::new();
    for server in servers::all() {
        let id = admin.upstream_id(&server.name()).await;
        let (mcp, _) = gateway.mcp_with(&server.name(), json!({"upstreamIds": [id]})).await;
        lanes.spawn(lane(Arc::clone(&gateway), mcp.key().to_owned(), server));
    }
    let measured: Vec<Measured> = lanes.join_all().await.into_iter().flatten().collect();
    let found = table::render(&measured);
    println!("{found}");
    let surprises = table::surprises(&measured);
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), measured.len(), surprises.join("\n"));

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(&document, &found).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&document).unwrap_or_default();
    assert_eq!(written, found, "UPDATE_MATRIX=1 writes {DOCUMENT} anew");
}

/// All clients of one server, one after the other. They cancel last: for a while after a call was given up, what
/// names no call is nobody's on a shared session.
async fn lane(gateway: Arc<TestGateway>, key: String, server: Server) -> Vec<Measured> {
    let (last, first): (Vec<Feature>, Vec<_>) = FEATURES.into_iter().partition(|one| *one == Feature::Cancel);
    let mut measured = Vec::new();
    for features in [first, last] {
        for over in CLIENT_TRANSPORTS {
            for revision in servers::revisions() {
                let cells = cells(&gateway, &key, over, revision, &features, &server);
                measured.extend(cells.await);
            }
        }
    }
    measured
}

/// Some cells of one client.
async fn cells(
    gateway: &TestGateway,
    key: &str,
    over: &'static str,
    client: &'static str,
    features: &[Feature],
    server: &Server,
) -> Vec<Measured> {
    let (mut measured, mut slot) = (Vec::new(), None);
    for &feature in features {
        let outcome = cell(gateway, key, over, client, &mut slot, feature, server).await;
        measured.push(Measured { feature, client, over, server: server.clone(), outcome });
    }
    if let Some(client) = slot {
        client.leave().await;
    }
    measured
}

/// One cell. The client goes on to the next if nothing went wrong.
async fn cell(
    gateway: &TestGateway,
    key: &str,
    over: &str,
    revision: &'static str,
    slot: &mut Option<Client>,
    feature: Feature,
    server: &Server,
) -> Outcome<()> {
    let cell = async {
        let mut client = match slot.take() {
            Some(client) => client,
            None => Client::connect(gateway, key, over, revision).await,
        };
        feature.try_with(&mut client, server).await?;
        *slot = Some(client);
        Ok(())
    };
    let cell = tokio::time::timeout(CELL_PATIENCE, cell);
    match AssertUnwindSafe(cell).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(format!("nothing happened for {CELL_PATIENCE:?}")),
        Err(_) => Err("something panicked".to_owned()),
    }
}
