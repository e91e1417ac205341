//! The storage group.

pub mod csi_driver;
pub mod storage_class;
