//! The server as every cluster runs it: who may come in, what they may do, and what becomes of what they write.

mod access;
mod aggregation;
mod audit;
mod cluster;
mod https;
mod issuers;
mod policies;
mod streams;
mod webhooks;
