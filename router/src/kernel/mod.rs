//! What the kernel says and does beside moving packets: links, carrier, network namespaces, scheduling.

pub mod carrier;
pub mod descriptors;
pub mod link;
mod netlink;
pub mod netns;
pub mod realtime;
pub mod side;
