//! The end of a cluster.

use std::sync::Arc;

use knarr_api::time::SeededRandom;
use knarr_network::dns::Dns;
use knarr_network::proxy::{Dataplane, NftDataplane};

use super::api::Api;
use super::support::*;

#[tokio::test]
async fn nothing_is_left_in_the_kernel_and_repeating_is_fine() {
    let node = Node::new();
    let before = addresses_and_routes(&node).await;
    let network = node.network().await;
    let _pod = node.pod(&network, "web").await;
    drop(network);
    NftDataplane::open(&node.config).expect("open").load().await.expect("load");
    drop(
        Dns::build(&node.config, &Api::default().informers(), Arc::new(SeededRandom::new(1)))
            .await
            .expect("build"),
    );
    assert_ne!(addresses_and_routes(&node).await, before);
    // The node's range may not be known any more.
    let config = knarr_network::Config { pod_cidrs: Vec::new(), ..node.config.clone() };
    for _ in 0..2 {
        knarr_network::destroy(&config).await.expect("destroy");
        assert!(tables(&node).await.is_empty());
        assert!(pod_links(&node).await.is_empty());
        assert_eq!(addresses_and_routes(&node).await, before);
    }
}

/// Loopback is up afterwards, which brings its own address.
async fn addresses_and_routes(node: &Node) -> Vec<String> {
    let route: nlink::Connection<nlink::Route> =
        nlink::Connection::new_in(node.netns.path()).expect("open netlink");
    let addresses = route.get_addresses().await.expect("list addresses");
    let routes = route.get_routes().await.expect("list routes");
    let addresses = addresses.iter().filter_map(|address| address.address()).map(ToString::to_string);
    let routes = routes.iter().filter_map(|route| route.destination()).map(ToString::to_string);
    addresses.chain(routes).filter(|text| text.starts_with("10.")).collect()
}
