//! The node agent: one worker per pod, probes, volumes, node status and the node's HTTPS server
