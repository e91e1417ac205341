//! The built-in controllers, one folder each
