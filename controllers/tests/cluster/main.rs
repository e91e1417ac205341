//! The controllers against the real API server in process, on virtual time. The pods name their node, and a stand-in
//! for its kubelet says at once that they run.

mod autoscaling;
mod certificates;
mod deployments;
mod faults;
mod garbage;
mod harness;
mod jobs;
mod leaders;
mod namespaces;
mod nodes;
mod services;
mod sets;
mod storage;
mod tokens;
