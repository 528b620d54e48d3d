//! What is done with the connections, one file per mode.

pub mod churn;
pub mod coming_back;
pub mod connect;
pub mod echo;
pub mod fanout;
pub mod idle;
pub mod slow;
pub mod touser;
