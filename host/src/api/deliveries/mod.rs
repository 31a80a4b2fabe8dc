//! Operations on deliveries: list, show, run again and give up.

pub mod flight;
pub mod give_up;
pub mod id;
pub mod in_set;
pub mod list;
pub mod lost;
pub mod retry;
pub mod show;
pub mod view;
