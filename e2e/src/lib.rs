//! Black-box checks of the running binary with independent clients
