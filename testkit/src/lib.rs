//! The real API server in process on memory storage, builders and a paused clock; for tests only
