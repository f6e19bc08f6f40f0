//! The socket for other replicas, and the address by which they reach it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use proxy::data_plane::PeerSocket;

use crate::failure::Failure;

/// Any addresses beyond the local network, of the ranges for documentation: nothing is ever sent there.
const BEYOND_V4: &str = "192.0.2.1:9";
const BEYOND_V6: &str = "[2001:db8::1]:9";

/// Takes the address, so that a failure is a clear error before anything starts. Connections wait in the
/// socket's queue until somebody serves.
pub(crate) fn bind(listen: SocketAddr) -> Result<PeerSocket, Failure> {
    let failed = |what: &str, error: &io::Error| {
        Failure::General(format!("MPG_PEER_ADDR: {what} {listen}: {}", error.kind()))
    };
    let socket = TcpListener::bind(listen).map_err(|error| failed("can't listen at", &error))?;
    let ip = if listen.ip().is_unspecified() {
        own_address(listen).map_err(|error| failed("no address of this machine is known for", &error))?
    } else {
        listen.ip()
    };
    Ok(PeerSocket { socket, address: SocketAddr::new(ip, listen.port()) })
}

/// The address that this machine has towards others: the one it would send from.
fn own_address(listen: SocketAddr) -> io::Result<IpAddr> {
    let beyond = if listen.is_ipv4() { BEYOND_V4 } else { BEYOND_V6 };
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0))?;
    socket.connect(beyond)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_the_address_that_was_given() {
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = free.local_addr().expect("bound");
        let refused = bind(address).err().expect("it is taken");
        assert!(format!("{refused:?}").contains("MPG_PEER_ADDR"), "{refused:?}");
        drop(free);
        assert_eq!(bind(address).expect("it is free now").address, address);
    }

    #[test]
    fn others_are_told_no_address_that_means_nothing_to_them() {
        let free = TcpListener::bind("0.0.0.0:0").expect("there are free ports");
        let address = free.local_addr().expect("bound");
        drop(free);
        // A machine without a network has no address to tell, and says so.
        if let Ok(peer) = bind(address) {
            assert!(!peer.address.ip().is_unspecified());
            assert_eq!(peer.address.port(), address.port());
        }
    }
}
