//! The socket on which Prometheus reads, and what is on the page.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use proxy::data_plane::DataPlane;
use proxy::gateway::Gateway;
use proxy::metrics::listener::Pages;
use proxy::metrics::page::{Kind, Page};

use crate::failure::Failure;

/// Takes the address, so that a failure is a clear error before anything starts.
pub(crate) fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let socket = TcpListener::bind(listen);
    socket.map_err(|error| {
        Failure::General(format!("MPG_METRICS_ADDR: can't listen at {listen}: {}", error.kind()))
    })
}

/// Makes the page, from what every part knows at the moment it is asked for.
pub(crate) fn pages(gateway: Gateway, plane: DataPlane) -> Pages {
    Arc::new(move || {
        let (gateway, plane) = (gateway.clone(), plane.clone());
        Box::pin(async move {
            let mut page = Page::default();
            let build = page.family("mpg_build_info", Kind::Gauge, "The version that runs");
            build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
            gateway.show_metrics(&mut page);
            plane.show_metrics(&mut page).await;
            page
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = taken.local_addr().expect("bound");
        let refused = bind(address).expect_err("it is taken");
        assert!(format!("{refused:?}").contains("MPG_METRICS_ADDR"), "{refused:?}");
    }
}
