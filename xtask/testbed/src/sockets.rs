// SPDX-License-Identifier: Apache-2.0
//! The kernel's tables of sockets, `/proc/net/tcp` and `/proc/net/tcp6`. Pure: the text comes in.

/// `TCP_LISTEN`, as the kernel prints it.
const LISTEN: &str = "0A";

/// The ports on which somebody listens.
pub fn listening_ports(tables: &str) -> Vec<u16> {
    tables.lines().filter_map(listening_port).collect()
}

fn listening_port(row: &str) -> Option<u16> {
    let mut fields = row.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let (_, port) = local.rsplit_once(':')?;
    (state == LISTEN).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_count_of_either_family() {
        let tables = "  sl  local_address rem_address   st tx_queue\n   \
                      0: 0100007F:D71D 00000000:0000 0A 00000000:00000000\n   \
                      1: 0100007F:D71D 0100007F:8A3C 01 00000000:00000000\n   \
                      0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0\n";
        assert_eq!(listening_ports(tables), [0xD71D, 80]);
    }
}
