//! The scheduler: queue, cycle, one file per plugin
