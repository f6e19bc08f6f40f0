//! Telling the service manager that started us how far we are: systemd's notification protocol.
//!
//! Without `NOTIFY_SOCKET` nobody listens and nothing is sent. A manager that can't be told is no reason to stop
//! serving, so failures are logged and end there.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable by which a manager says where it listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// What a manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Calls are served.
    Ready,
    /// It was asked to end and is doing so.
    Stopping,
}

/// Tells the manager, if there is one.
pub(crate) fn tell(state: State) {
    let Some(socket) = std::env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, ?state, "the service manager can't be told");
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let message: &[u8] = match state {
        State::Ready => b"READY=1\nSTATUS=serving",
        State::Stopping => b"STOPPING=1\nSTATUS=finishing what is in flight",
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address(socket)?).map(drop)
}

/// A path, or with an `@` in front a name that is no file.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).expect("something was sent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn files_and_abstract_names_are_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let file = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), State::Ready).expect("sent");
        assert_eq!(received(&file), "READY=1\nSTATUS=serving");

        let name = format!("mpg-notify-{}", std::process::id());
        let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name"))
            .expect("a socket");
        send(OsStr::new(&format!("@{name}")), State::Stopping).expect("sent");
        assert!(received(&hidden).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn nobody_there_is_an_error_and_no_more() {
        send(OsStr::new("/nonexistent/notify"), State::Ready).expect_err("nobody listens");
    }
}
