//! The Hub, which a server on this machine stands for.

mod failures;
mod fetch;
#[path = "../common/hub/mod.rs"]
mod hub;
mod newcomer;
mod push;
mod python;
mod secrets;
mod table;
#[path = "../common/tiny.rs"]
mod tiny;
