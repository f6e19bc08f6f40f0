//! `healthcheck`: asks the gateway on this machine whether it lives, for a container without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use sql::tls::{self, Check};

use crate::config::Config;
use crate::failure::Failure;

/// Each of connecting, writing and reading. Containers give a check 30 s by default; one that takes a
/// tenth of it answers no.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);
/// `HTTP/1.1 200`: enough of an answer to know.
const STATUS_LINE_START: usize = 12;

/// Exit code 0 if it lives, 1 if not.
pub(crate) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let address = reachable(config.listen);
    let answer = if config.tls.is_some() { status_over_tls(address) } else { status(address) };
    match answer {
        Ok(200) => Ok(ExitCode::SUCCESS),
        Ok(status) => Err(Failure::General(format!("unhealthy: /healthz answered {status}"))),
        Err(error) => Err(Failure::General(format!("unhealthy: no answer from {address}: {error}"))),
    }
}

/// Where a listener on all addresses is reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(address, listen.port())
}

fn status(address: SocketAddr) -> io::Result<u16> {
    ask(connect(address)?, address)
}

fn status_over_tls(address: SocketAddr) -> io::Result<u16> {
    // It is asked by its address, which its certificate doesn't name, and nothing is told to it or believed
    // but whether it answers.
    let config = tls::client(Check::Nothing);
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    ask(StreamOwned::new(connection, connect(address)?), address)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    Ok(stream)
}

fn ask(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<u16> {
    stream.write_all(
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut start = [0; STATUS_LINE_START];
    stream.read_exact(&mut start)?;
    let text = std::str::from_utf8(&start).ok();
    let status = text.and_then(|text| text.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer`.
    fn peer(answer: &'static [u8]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn the_status_is_read_from_the_first_line() {
        let (address, thread) = peer(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status(address).unwrap(), 503);
        assert!(thread.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\n"));
    }

    #[test]
    fn another_protocol_is_no_answer() {
        let (address, thread) = peer(b"SSH-2.0-OpenSSH_9.6\r\n");
        assert_eq!(status(address).unwrap_err().kind(), io::ErrorKind::InvalidData);
        thread.join().unwrap();
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_at_loopback() {
        assert_eq!(reachable("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(reachable("[::]:8080".parse().unwrap()).to_string(), "[::1]:8080");
        assert_eq!(reachable("10.1.2.3:80".parse().unwrap()).to_string(), "10.1.2.3:80");
    }
}
