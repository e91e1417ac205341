//! Clients, shared informers, work queues and the controller runner
