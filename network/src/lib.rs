//! Pod attachment, the service data plane, network policy and cluster DNS
