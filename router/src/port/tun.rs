//! TUN devices: the kernel's side is an interface in a namespace, this side a descriptor for each
//! queue.
//!
//! An existing device is used in the mode it was created with, because the kernel would otherwise
//! refuse it or change it silently. A device that cannot carry a port's packets is refused.
#![deny(unsafe_code)] // not `forbid`, which would also apply to `sys`

mod error;
mod framing;
mod negotiate;
mod sys;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use rustix::io::Errno;
use tun_tap::{Iface, Mode};

use super::{Port, PortError};
use crate::batch::{Batch, Frame};
use crate::kernel::link::{LinkError, LinkSetup, LinkStatus, TunStatus};
use crate::kernel::netns::NetNs;
use crate::kernel::side::{Mine, Side, SideError, SideLink};
use crate::packet::offload::{OFFLOAD_LEN, Offloads};
use framing::Framing;

pub use error::TunError;

/// The TUN device to open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TunSpec {
    /// Interface name, 1 to 15 bytes.
    pub name: String,
    /// The namespace of the kernel's side.
    pub netns: NetNs,
    /// Number of queues, 1 to [`QUEUES_MAX`]. 1 creates a single-queue device.
    pub queues: usize,
    /// Whether a device created here outlives its descriptors. An existing device keeps its own
    /// setting.
    pub persist: bool,
    /// Offloads in both directions. If there are any, a device created here has an offload header
    /// before each packet, whether or not this kernel supports all of them.
    pub offloads: Offloads,
}

/// The queue mode of a TUN device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunMode {
    /// One queue, one descriptor.
    SingleQueue,
    /// A descriptor for each queue.
    MultiQueue,
}

/// A TUN device that was opened.
pub struct OpenedTun {
    /// The port that carries its packets.
    pub port: Arc<dyn Port>,
    /// Interface name.
    pub name: String,
    /// The namespace of the kernel's side.
    pub netns: NetNs,
    /// Interface index in that namespace.
    pub ifindex: u32,
    /// Number of queues: 1 for an existing single-queue device, whatever was requested.
    pub queues: usize,
    /// Its queue mode.
    pub mode: TunMode,
    /// Whether it was created here.
    pub created: bool,
    /// Requested features that are unavailable, and why.
    pub missing: Vec<String>,
}

/// Opens the device, or creates it if absent. It stays down until [`OpenedTun::bring_up`]. After an
/// error, no new device remains.
pub fn open(spec: &TunSpec) -> Result<OpenedTun, TunError> {
    error::check(spec)?;
    let mut links = LinkSetup::open(&spec.netns)?;
    let found = links.find(&spec.name)?;
    let plan = OpenPlan::new(spec, found)?;
    let queues = spec.netns.within(|| plan.open())??;
    let port = TunPort::new(queues, &plan).map_err(|source| plan.failed(source))?;
    let ifindex = links.status(&spec.name)?.ifindex;
    if plan.created && spec.persist {
        sys::set_persist(port.queues[0].as_fd(), true).map_err(|source| plan.failed(source))?;
    }
    Ok(OpenedTun {
        name: spec.name.clone(),
        netns: spec.netns.clone(),
        ifindex,
        queues: port.queues.len(),
        mode: plan.mode,
        created: plan.created,
        missing: port.missing.clone(),
        port: Arc::new(port),
    })
}

impl OpenedTun {
    /// Sets the device up with this MTU in bytes, and adds `peer_addresses` to the kernel's side. A
    /// device created by [`open`] gets no link-local address, and so solicits no routers.
    ///
    /// # Errors
    /// As [`Self::bring_to`].
    pub fn bring_up(&self, mtu: u32, peer_addresses: &[IpNetwork]) -> Result<(), SideError> {
        let addresses = peer_addresses.to_vec();
        self.bring_to(&Side { mtu, quiet: self.created, addresses, routes: vec![] })
    }

    /// Sets the device up and brings the kernel's side to what is wanted of it. Once this returns,
    /// packets to its addresses are delivered.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn bring_to(&self, side: &Side) -> Result<(), SideError> {
        let mut links = SideLink::open(&self.netns)?;
        let (ifindex, mine) = (self.ifindex, Mine::new());
        // First what makes no packet, for the kernel solicits routers as soon as the device is up.
        let quiet = Side { mtu: side.mtu, quiet: side.quiet, ..Side::default() };
        if self.created {
            links.settle(ifindex, &quiet, &mine, false)?;
        }
        LinkSetup::open(&self.netns)?.set_up(&self.name, true)?;
        links.settle(ifindex, side, &mine, !self.created)?;
        Ok(links.wait_until_delivered(ifindex, side)?)
    }

    /// Whether the device is to stay as quiet as nearhop makes its own: it is one, or it was made so by
    /// an earlier one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_quiet(&self) -> Result<bool, LinkError> {
        let makes = || SideLink::open(&self.netns)?.look(self.ifindex, false);
        Ok(self.created || makes()?.makes_link_local != Some(true))
    }
}

/// How to open the device, given what exists.
struct OpenPlan<'a> {
    spec: &'a TunSpec,
    mode: TunMode,
    queues: usize,
    packet_info: bool,
    vnet_hdr: bool,
    created: bool,
}

impl<'a> OpenPlan<'a> {
    fn new(spec: &'a TunSpec, found: Option<LinkStatus>) -> Result<Self, TunError> {
        let wanted = if spec.queues == 1 { TunMode::SingleQueue } else { TunMode::MultiQueue };
        let Some(found) = found else {
            return Ok(Self {
                spec,
                mode: wanted,
                queues: spec.queues,
                packet_info: false,
                vnet_hdr: spec.offloads != Offloads::NONE,
                created: true,
            });
        };
        let tun = usable(spec, &found)?;
        let mode = if tun.multi_queue { TunMode::MultiQueue } else { TunMode::SingleQueue };
        Ok(Self {
            spec,
            mode,
            queues: if tun.multi_queue { spec.queues } else { 1 },
            packet_info: tun.packet_info,
            vnet_hdr: tun.vnet_hdr,
            created: false,
        })
    }

    /// Opens all queues, in the calling thread's network namespace.
    fn open(&self) -> Result<Vec<OwnedFd>, TunError> {
        let first = open_clone_device()?;
        if self.mode == TunMode::SingleQueue && !self.packet_info && !self.vnet_hdr {
            drop(first);
            let iface = Iface::without_packet_info(&self.spec.name, Mode::Tun);
            return Ok(vec![sys::into_fd(iface.map_err(|source| self.failed(source))?)]);
        }
        let mut queues = vec![first];
        while queues.len() < self.queues {
            queues.push(open_clone_device()?);
        }
        for queue in &queues {
            sys::attach(queue, &self.spec.name, self.flags())
                .map_err(|source| self.failed(source))?;
        }
        Ok(queues)
    }

    /// The TUNSETIFF flags. Attaching sets the flags of an existing device again, so these repeat
    /// its own.
    fn flags(&self) -> i32 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(!self.packet_info, libc::IFF_NO_PI)
            | flag(self.vnet_hdr, libc::IFF_VNET_HDR)
            | flag(self.mode == TunMode::MultiQueue, libc::IFF_MULTI_QUEUE)
    }

    fn failed(&self, source: io::Error) -> TunError {
        TunError::from_open(self.spec, self.created, source)
    }
}

fn open_clone_device() -> Result<OwnedFd, TunError> {
    sys::open_clone_device().map_err(|source| TunError::CloneDevice { source })
}

/// The status of an existing device, or why it cannot be a port.
fn usable(spec: &TunSpec, found: &LinkStatus) -> Result<TunStatus, TunError> {
    let Some(tun) = found.tun else {
        return Err(match &found.kind {
            Some(kind) => TunError::unusable(spec, format!("a {kind} device"), true),
            None => TunError::unusable(spec, "a device that is not virtual".into(), false),
        });
    };
    if tun.tap {
        let found = "a TAP device, which carries Ethernet frames".into();
        return Err(TunError::unusable(spec, found, true));
    }
    if tun.open_queues > 0 {
        return Err(TunError::busy(spec));
    }
    Ok(tun)
}

/// The [`Port`] of a TUN device.
struct TunPort {
    queues: Vec<OwnedFd>,
    mode: TunMode,
    framing: Framing,
    /// Whether packets have an offload header in front, which is passed on.
    is_framed: bool,
    offloads: Offloads,
    missing: Vec<String>,
}

impl TunPort {
    fn new(queues: Vec<OwnedFd>, plan: &OpenPlan<'_>) -> io::Result<Self> {
        for queue in &queues {
            rustix::io::ioctl_fionbio(queue, true)?;
        }
        let (first, wanted) = (queues[0].as_fd(), plan.spec.offloads);
        let is_framed = plan.vnet_hdr && !plan.packet_info && wanted != Offloads::NONE;
        let (mut offloads, mut missing) = (Offloads::NONE, Vec::new());
        let mut vnet_hdr_len = 0;
        if is_framed {
            for queue in &queues {
                sys::set_vnet_header_len(queue.as_fd(), OFFLOAD_LEN)?;
            }
            (offloads, missing) =
                negotiate::negotiate(wanted, |mask| sys::set_offloads(first, mask))?;
            vnet_hdr_len = OFFLOAD_LEN;
        } else if plan.vnet_hdr {
            sys::set_offloads(first, 0)?;
            vnet_hdr_len = sys::vnet_header_len(first)?;
        }
        if wanted != Offloads::NONE && !is_framed {
            missing
                .push("offloads: the existing device has no vnet_hdr, or has packet info".into());
        }
        let framing = Framing::new(plan.packet_info, vnet_hdr_len)?;
        Ok(Self { queues, mode: plan.mode, framing, is_framed, offloads, missing })
    }

    fn queue(&self, queue: usize) -> Result<&OwnedFd, PortError> {
        self.queues.get(queue).ok_or_else(|| PortError::Refused(Errno::INVAL.into()))
    }
}

impl Port for TunPort {
    fn engine(&self) -> &'static str {
        match self.mode {
            TunMode::SingleQueue => "tun",
            TunMode::MultiQueue => "tun multi-queue",
        }
    }

    fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Reads do not fail while the device is down: its queue can still be read, then it is empty.
    /// [`Self::tx`] and the carrier monitor detect that state.
    fn rx(&self, queue: usize, batch: &mut Batch) -> Result<usize, PortError> {
        let queue = self.queue(queue)?;
        let mut received = 0;
        while batch.room() > 0 {
            let read = if self.is_framed {
                let read = rustix::io::read(queue, batch.next_frame());
                read.map(|len| batch.commit_frames([Some(len)]))
            } else {
                self.framing.read(queue, batch.next_buffer()).map(|len| batch.commit(len))
            };
            match read {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::INTR) => break,
                // The error recurs at the next call: return the packets first.
                Err(_) if received > 0 => break,
                Err(errno) => return Err(port_error(errno)),
            }
            received += 1;
        }
        Ok(received)
    }

    fn tx(&self, queue: usize, packet: &[u8]) -> Result<(), PortError> {
        self.framing.write(self.queue(queue)?, packet).map(|_| ()).map_err(port_error)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn send(&self, queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        if !self.is_framed {
            return self.tx(queue, frame.packet());
        }
        rustix::io::write(self.queue(queue)?, frame.bytes()).map(|_| ()).map_err(port_error)
    }

    fn frames_fd(&self, queue: usize) -> Option<BorrowedFd<'_>> {
        self.fd(queue).filter(|_| self.is_framed)
    }

    fn fd(&self, queue: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(queue).map(AsFd::as_fd)
    }
}

/// The port error for a read or write that failed with `errno`, a positive number.
pub(super) fn port_error_of(errno: i32) -> PortError {
    port_error(Errno::from_raw_os_error(errno))
}

fn port_error(errno: Errno) -> PortError {
    match errno {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => PortError::Full,
        Errno::IO => PortError::Down,
        Errno::BADFD | Errno::NODEV => PortError::Gone,
        _ => PortError::Refused(errno.into()),
    }
}

/// The most queues of a TUN device that the kernel allows (`MAX_TAP_QUEUES`).
pub const QUEUES_MAX: usize = 256;

/// The file from which every TUN descriptor is opened.
const CLONE_DEVICE: &str = "/dev/net/tun";
