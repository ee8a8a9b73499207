//! The netlink messages of both methods, in the layouts of `<linux/pkt_cls.h>` and
//! `<linux/netfilter/nf_tables.h>`.
#![forbid(unsafe_code)]

/// Netlink messages that are sent in one datagram.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    acknowledged: usize,
}

impl Batch {
    /// Numbers the messages; returns how many acknowledgements to expect.
    pub(super) fn number(&mut self, sequence: &mut u32) -> usize {
        for start in &self.starts {
            *sequence = sequence.wrapping_add(1);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        self.acknowledged
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a message: `struct nlmsghdr`, the fixed part, then what `attributes` appends.
    fn push(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(fixed);
        attributes(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.starts.push(start);
        self.acknowledged += usize::from(flags & NLM_F_ACK != 0);
    }
}

/// The kernel's acknowledgement of one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// Sequence number of the message.
    pub(super) sequence: u32,
    /// 0 for success, else the negative errno.
    pub(super) error: i32,
}

/// Parses the acknowledgements in a datagram.
pub(super) fn answers(mut datagram: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((header, _)) = datagram.split_first_chunk::<ERROR_LEN>() {
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR {
            answers.push(Answer { sequence: word(8), error: word(16).cast_signed() });
        }
        let next = (word(0) as usize).next_multiple_of(4).max(ERROR_LEN);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    answers
}

/// Appends `struct nlattr` and the value, padded.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nest(bytes, kind, |bytes| bytes.extend(value));
}

fn nest(bytes: &mut Vec<u8>, kind: u16, inner: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend([0; 2]);
    bytes.extend(kind.to_ne_bytes());
    inner(bytes);
    let length = (bytes.len() - start) as u16;
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

pub(super) mod tc {
    use super::{Batch, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, attribute, nest};

    /// The qdisc to whose two sides the filters are attached.
    pub(in super::super) fn add_clsact(ifindex: u32) -> Batch {
        let mut batch = Batch::default();
        let fixed = tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0);
        batch.push(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &fixed, |bytes| {
            attribute(bytes, TCA_KIND, b"clsact\0");
        });
        batch
    }

    /// netem without any impairment.
    pub(in super::super) fn add_netem(ifindex: u32) -> Batch {
        let mut batch = Batch::default();
        let fixed = tcmsg(ifindex, 0, TC_H_ROOT, 0);
        batch.push(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &fixed, |bytes| {
            attribute(bytes, TCA_KIND, b"netem\0");
            attribute(bytes, TCA_OPTIONS, &[0; TC_NETEM_QOPT_LEN]);
        });
        batch
    }

    pub(in super::super) fn add_drops(ifindex: u32) -> Batch {
        let mut batch = Batch::default();
        for side in SIDES {
            let fixed = tcmsg(ifindex, 0, side, FIRST_FILTER_FOR_ALL);
            batch.push(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE, &fixed, |bytes| {
                attribute(bytes, TCA_KIND, b"bpf\0");
                nest(bytes, TCA_OPTIONS, |bytes| {
                    attribute(bytes, TCA_BPF_OPS_LEN, &1u16.to_ne_bytes());
                    attribute(bytes, TCA_BPF_OPS, &return_value(TC_ACT_SHOT));
                    attribute(bytes, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
                });
            });
        }
        batch
    }

    pub(in super::super) fn delete_drops(ifindex: u32) -> Batch {
        let mut batch = Batch::default();
        for side in SIDES {
            let fixed = tcmsg(ifindex, 0, side, FIRST_FILTER_FOR_ALL);
            batch.push(RTM_DELTFILTER, NLM_F_ACK, &fixed, |_| {});
        }
        batch
    }

    /// `struct tcmsg`.
    fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
        let mut fixed = [0; 20];
        for (at, word) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
            fixed[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        fixed
    }

    /// `struct sock_filter`: the one instruction "return `value`".
    fn return_value(value: u32) -> [u8; 8] {
        let mut instruction = [0; 8];
        instruction[..2].copy_from_slice(&(libc::BPF_RET as u16).to_ne_bytes());
        instruction[4..].copy_from_slice(&value.to_ne_bytes());
        instruction
    }

    const RTM_NEWQDISC: u16 = 36;
    const RTM_NEWTFILTER: u16 = 44;
    const RTM_DELTFILTER: u16 = 45;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const TCA_BPF_OPS_LEN: u16 = 4;
    const TCA_BPF_OPS: u16 = 5;
    const TCA_BPF_FLAGS: u16 = 8;
    const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
    const TC_ACT_SHOT: u32 = 2;
    const TC_H_ROOT: u32 = 0xffff_ffff;
    /// `sizeof(struct tc_netem_qopt)`.
    const TC_NETEM_QOPT_LEN: usize = 24;
    const TC_H_CLSACT: u32 = 0xffff_fff1;
    const CLSACT_HANDLE: u32 = 0xffff_0000;
    /// Handles of clsact's ingress and egress.
    const SIDES: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
    /// Priority 1 in the upper half, ETH_P_ALL in network byte order in the lower half.
    const FIRST_FILTER_FOR_ALL: u32 = (1 << 16) | (libc::ETH_P_ALL as u16).to_be() as u32;
}

pub(super) mod nft {
    use super::{Batch, NLM_F_ACK, NLM_F_CREATE, attribute, nest, terminated};

    pub(in super::super) fn add_table(interface: &str) -> Batch {
        let mut batch = Batch::default();
        edge(&mut batch, NFNL_MSG_BATCH_BEGIN);
        batch.push(NFT_MSG_NEWTABLE, NLM_F_ACK | NLM_F_CREATE, &NETDEV, |bytes| {
            attribute(bytes, NFTA_TABLE_NAME, &terminated(TABLE));
        });
        for (chain, hook) in [("in", NF_NETDEV_INGRESS), ("out", NF_NETDEV_EGRESS)] {
            batch.push(NFT_MSG_NEWCHAIN, NLM_F_ACK | NLM_F_CREATE, &NETDEV, |bytes| {
                attribute(bytes, NFTA_CHAIN_TABLE, &terminated(TABLE));
                attribute(bytes, NFTA_CHAIN_NAME, &terminated(chain));
                nest(bytes, NFTA_CHAIN_HOOK | NLA_F_NESTED, |bytes| {
                    attribute(bytes, NFTA_HOOK_HOOKNUM, &hook.to_be_bytes());
                    attribute(bytes, NFTA_HOOK_PRIORITY, &0u32.to_be_bytes());
                    attribute(bytes, NFTA_HOOK_DEV, &terminated(interface));
                });
                attribute(bytes, NFTA_CHAIN_POLICY, &NF_DROP.to_be_bytes());
                attribute(bytes, NFTA_CHAIN_TYPE, b"filter\0");
            });
        }
        edge(&mut batch, NFNL_MSG_BATCH_END);
        batch
    }

    pub(in super::super) fn delete_table() -> Batch {
        let mut batch = Batch::default();
        edge(&mut batch, NFNL_MSG_BATCH_BEGIN);
        batch.push(NFT_MSG_DELTABLE, NLM_F_ACK, &NETDEV, |bytes| {
            attribute(bytes, NFTA_TABLE_NAME, &terminated(TABLE));
        });
        edge(&mut batch, NFNL_MSG_BATCH_END);
        batch
    }

    /// Begins or ends a transaction. In these messages `struct nfgenmsg` names the subsystem.
    fn edge(batch: &mut Batch, kind: u16) {
        batch.push(kind, 0, &[0, 0, 0, NFNL_SUBSYS_NFTABLES as u8], |_| {});
    }

    const TABLE: &str = "nearlab-silence";
    /// `struct nfgenmsg` for the family NFPROTO_NETDEV.
    const NETDEV: [u8; 4] = [5, 0, 0, 0];
    const NFNL_SUBSYS_NFTABLES: u16 = 10;
    const NFNL_MSG_BATCH_BEGIN: u16 = 16;
    const NFNL_MSG_BATCH_END: u16 = 17;
    const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
    const NFT_MSG_DELTABLE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 2;
    const NFT_MSG_NEWCHAIN: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 3;
    const NFTA_TABLE_NAME: u16 = 1;
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_CHAIN_TYPE: u16 = 7;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const NFTA_HOOK_PRIORITY: u16 = 2;
    const NFTA_HOOK_DEV: u16 = 3;
    const NF_NETDEV_INGRESS: u32 = 0;
    const NF_NETDEV_EGRESS: u32 = 1;
    const NF_DROP: u32 = 0;
    const NLA_F_NESTED: u16 = 1 << 15;
}

/// `struct nlmsghdr` and the error code.
const ERROR_LEN: usize = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_filled_in() {
        let mut batch = tc::add_drops(7);
        let mut sequence = 40;
        assert_eq!(batch.number(&mut sequence), 2);
        assert_eq!(sequence, 42);
        let length = u32::from_ne_bytes(*batch.bytes().first_chunk().unwrap()) as usize;
        assert_eq!(length * 2, batch.bytes().len());
        assert_eq!(batch.bytes()[length + 8..length + 12], 42u32.to_ne_bytes());
    }

    #[test]
    fn cut_or_foreign_datagrams_hold_no_answers() {
        let mut error = vec![20, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        error.extend((-17i32).to_ne_bytes());
        assert_eq!(answers(&error), [Answer { sequence: 9, error: -17 }]);
        for cut in 0..error.len() {
            assert_eq!(answers(&error[..cut]), []);
        }
        error[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(answers(&error).len(), 1);
        assert_eq!(answers(&[0; 64]), []);
    }
}
