//! Why a connection ended, in words for an admin. What the other side writes about it is not repeated.

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A connection that ended without being closed.
const BROKE_OFF: &str = "the connection broke off";

/// The upstream closed the connection.
pub(super) fn of_close(code: Option<CloseCode>) -> String {
    let Some(code) = code else { return "the upstream closed the connection".into() };
    let meaning = match code {
        CloseCode::Away => ": it is going away",
        CloseCode::Protocol => ": it found the WebSocket protocol broken",
        CloseCode::Unsupported => ": it does not take text",
        CloseCode::Invalid => ": it found a text broken",
        CloseCode::Policy => ": its policy forbids the connection or a message; the credential may be wrong",
        CloseCode::Size => ": a message was too large for it",
        CloseCode::Extension => ": it wants an extension of WebSocket",
        CloseCode::Error => ": it failed",
        CloseCode::Restart => ": it restarts",
        CloseCode::Again => ": it is overloaded",
        _ => "",
    };
    format!("the upstream closed the connection with code {}{meaning}", u16::from(code))
}

/// Something went wrong with the connection, and what the upstream is told about it.
pub(super) fn of_error(error: &Error) -> (String, CloseCode) {
    let (reason, code) = match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            ("the upstream sent a message of more than 16 MiB", CloseCode::Size)
        }
        Error::Utf8(_) => ("the upstream sent a text that is not UTF-8", CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            (BROKE_OFF, CloseCode::Away)
        }
        Error::Capacity(_) | Error::Protocol(_) | Error::AttackAttempt => {
            ("the upstream breaks the WebSocket protocol", CloseCode::Protocol)
        }
        _ => (BROKE_OFF, CloseCode::Away),
    };
    tracing::debug!(error = error as &dyn std::error::Error, "a WebSocket to an upstream failed");
    (reason.into(), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name() {
        for code in [1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013] {
            let reason = of_close(Some(CloseCode::from(code)));
            assert!(reason.contains(&format!(" {code}: ")), "{reason}");
        }
        assert_eq!(of_close(Some(CloseCode::Normal)), "the upstream closed the connection with code 1000");
        assert_eq!(
            of_close(Some(CloseCode::from(4401))),
            "the upstream closed the connection with code 4401"
        );
    }
}
