//! A port without a device, which every engine can read and write: a pair of sockets that keep packets
//! apart. Unlike a kernel's device it lets any header through, however it lies.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nearhop::batch::{Batch, Frame, PACKET_MAX};
use nearhop::packet::offload::{OFFLOAD_LEN, Offload, Offloads};
use nearhop::port::memory::MemoryPort;
use nearhop::port::queue::{SyscallQueue, open_queue};
use nearhop::port::{EngineChoice, Port, PortError, Queue};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// How a port's queue is read and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// In memory.
    Memory,
    /// A call for each packet.
    Epoll,
    /// Many in a call.
    Uring,
}

impl Engine {
    /// As `show ports` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Epoll => "epoll",
            Self::Uring => "io_uring",
        }
    }
}

/// A port, the queue of it that the router has, and the far end.
pub struct End {
    pub port: Arc<dyn Port>,
    pub queue: Box<dyn Queue>,
    far: Far,
    buffer: Vec<u8>,
}

enum Far {
    Memory(Arc<MemoryPort>),
    Socket(OwnedFd),
}

impl End {
    /// Opens one; or says why that cannot be done here.
    pub fn open(engine: Engine, offloads: Offloads) -> Result<Self, String> {
        let buffer = vec![0; OFFLOAD_LEN + PACKET_MAX];
        if engine == Engine::Memory {
            let (near, _) = MemoryPort::pair_with(1 << 16, offloads);
            let port: Arc<dyn Port> = Arc::clone(&near) as Arc<dyn Port>;
            let queue = Box::new(SyscallQueue::new(Arc::clone(&port), 0));
            return Ok(Self { port, queue, far: Far::Memory(near), buffer });
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (near, far) = pair.map_err(|error| error.to_string())?;
        for socket in [&near, &far] {
            // A round of frames, each with the kernel's own weight.
            rustix::net::sockopt::set_socket_send_buffer_size(socket, 1 << 20)
                .map_err(|error| error.to_string())?;
        }
        let port: Arc<dyn Port> = Arc::new(Wire { socket: near, offloads });
        let choice =
            if engine == Engine::Uring { EngineChoice::Uring } else { EngineChoice::Epoll };
        let (queue, why) = open_queue(&port, 0, choice);
        if queue.engine() != engine.name() {
            return Err(why.unwrap_or_default());
        }
        let far = Far::Socket(far);
        let mut end = Self { port, queue, far, buffer };
        // io_uring was tried with a byte.
        end.take(|_, _| Ok(()))?;
        Ok(end)
    }

    /// Has the router find a frame here. `false` if there is no room, or it is none that a device
    /// would bring.
    pub fn put(&mut self, frame: &[u8]) -> bool {
        match &self.far {
            Far::Memory(port) => match frame.split_first_chunk() {
                Some((header, packet)) => {
                    port.inject_frame(packet, Offload::from_bytes(*header)).is_ok()
                }
                None => false,
            },
            Far::Socket(far) => rustix::io::write(far, frame).is_ok(),
        }
    }

    /// Shows `see` each frame that the router has sent by this port.
    pub fn take(
        &mut self,
        mut see: impl FnMut(&[u8], Offload) -> Result<(), String>,
    ) -> Result<(), String> {
        match &self.far {
            Far::Memory(port) => {
                port.drain_frames().iter().try_for_each(|(packet, offload)| see(packet, *offload))
            }
            Far::Socket(far) => {
                while let Ok(len) = rustix::io::read(far, &mut self.buffer[..]) {
                    let frame = &self.buffer[..len];
                    let Some((header, packet)) = frame.split_first_chunk() else { continue };
                    see(packet, Offload::from_bytes(*header))?;
                }
                Ok(())
            }
        }
    }
}

/// The router's side of a pair of sockets.
struct Wire {
    socket: OwnedFd,
    offloads: Offloads,
}

impl Port for Wire {
    fn engine(&self) -> &'static str {
        "socket"
    }

    fn queues(&self) -> usize {
        1
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn rx(&self, _queue: usize, batch: &mut Batch) -> Result<usize, PortError> {
        let mut received = 0;
        while batch.room() > 0
            && let Ok(len) = rustix::io::read(&self.socket, batch.next_frame())
        {
            batch.commit_frames([Some(len)]);
            received += 1;
        }
        Ok(received)
    }

    fn tx(&self, queue: usize, packet: &[u8]) -> Result<(), PortError> {
        let frame = [&[0; OFFLOAD_LEN][..], packet].concat();
        self.send(queue, Frame::whole(&frame))
    }

    fn send(&self, _queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        match rustix::io::write(&self.socket, frame.bytes()) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(PortError::Full),
            Err(errno) => Err(PortError::Refused(errno.into())),
        }
    }

    fn frames_fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}
