//! The WebSocket to a broker: dialled by the checking dialler, without subprotocol and headers of our own.
//!
//! The token stands in the URL and nowhere else, so no error here repeats any of it.

use std::net::IpAddr;
use std::time::Duration;

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use sql::model::{Transport, XiaozhiEndpoint, XiaozhiFault};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::closing::Ending;
use crate::upstream::dial::{Dialler, Stream};
use crate::upstream::egress::Egress;

/// From the first lookup to the answered upgrade.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Held for each connection; it grows with a message that is larger.
const BUFFER_BYTES: usize = 16 * 1024;

/// A socket to a broker.
pub(super) type Socket = WebSocketStream<TokioIo<Stream>>;

/// Opens a socket. Beside it, the address of the other side.
pub(super) async fn open(
    endpoint: &XiaozhiEndpoint,
    dialler: &Dialler,
    message_bytes_max: usize,
) -> Result<(Socket, Option<IpAddr>), Ending> {
    let opening = async {
        let unreachable = |words: String| Ending::new(XiaozhiFault::Unreachable, words);
        let url = dialler.egress().check_url_for(Transport::Websocket, endpoint.url.expose());
        let mut url = url.map_err(|error| unreachable(error.to_string()))?;
        url.set_fragment(None);
        let invalid = || unreachable("not a valid URL".into());
        let dialled: Uri = url.as_str().parse().map_err(|_| invalid())?;
        let stream = dialler.open_for_upgrade(&dialled).await.map_err(|error| unreachable(error.reason))?;
        let peer = address_of(&stream);
        // `http` became `ws` where it was checked, and so on.
        let request = format!("ws{}", url.as_str().strip_prefix("http").ok_or_else(invalid)?);
        let request = request.into_client_request().map_err(|_| invalid())?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let upgraded = client_async_with_config(request, TokioIo::new(stream), Some(config)).await;
        let (socket, _) = upgraded.map_err(|error| Ending::of_error(&error))?;
        Ok((socket, peer))
    };
    let late = |_| Ending::new(XiaozhiFault::Unreachable, "the connection was not opened in time");
    timeout(OPEN_TIMEOUT, opening).await.map_err(late)?
}

/// What forbids an address before it is dialled, in words for an admin.
pub(crate) fn check_url(egress: Egress, url: &str) -> Result<(), String> {
    egress.check_url_for(Transport::Websocket, url).map(drop).map_err(|error| error.to_string())
}

fn address_of(stream: &Stream) -> Option<IpAddr> {
    let tcp = match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    tcp.peer_addr().ok().map(|address| address.ip().to_canonical())
}
