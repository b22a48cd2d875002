//! The guard's rules as nftables reads them. Pure.
//!
//! A virtual machine's identity is what answers at [`IMDS`]: whoever reaches it is the machine. So nothing that this machine forwards
//! gets there: every container, whatever its network, with whatever rights in its own namespace, for these rules are in the machine's.
//! [`WIRESERVER`] gives out the machine's configuration on two ports; its port 53 is Azure's name server and stays open. A name server of
//! the machine's own that answers containers is none of this.
//!
//! They are in a table of our own: a verdict `drop` there cannot be taken back by Docker's or anybody's rules, and Docker never
//! touches it. Before any address is translated (`prerouting`, raw) the destination is what the container wrote; in `forward` it is what
//! came of it. Packets of this machine's own users are judged by who sent them; one without a sender (a reset, a late acknowledgement) is
//! nobody's and dropped.
//!
//! IPv6: there is no metadata service at an IPv6 address on Azure. A socket that connects to `::ffff:169.254.169.254` sends IPv4. What
//! could be on a wire is an address that a translator on the way would turn into IPv4: the mapped form (SIIT) and the well-known prefix
//! of NAT64.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The table's name, in family `inet`.
pub const TABLE: &str = "landfall_guard";
/// Azure's Instance Metadata Service.
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Azure's `WireServer`.
pub const WIRESERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// One transaction: the table as it should be, in place of whatever has its name. These users may reach the metadata service.
pub fn raise(users: &BTreeSet<u32>) -> String {
    let users: Vec<String> = users.iter().map(u32::to_string).collect();
    let users = users.join(", ");
    let (imds6, wireserver6) = (translated(IMDS), translated(WIRESERVER));
    format!(
        "\
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
	chain closed {{
		ip daddr {IMDS} drop
		ip6 daddr {{ {imds6} }} drop
		ip daddr {WIRESERVER} tcp dport {{ 80, 32526 }} drop
		ip6 daddr {{ {wireserver6} }} tcp dport {{ 80, 32526 }} drop
	}}
	chain arriving {{
		type filter hook prerouting priority -300; policy accept;
		iifname \"lo\" accept
		jump closed
	}}
	chain forwarded {{
		type filter hook forward priority 0; policy accept;
		jump closed
	}}
	chain sent {{
		type filter hook output priority -300; policy accept;
		meta skuid {{ {users} }} accept
		ip daddr {IMDS} drop
		ip6 daddr {{ {imds6} }} drop
	}}
}}
"
    )
}

/// No guard.
pub fn lower() -> String {
    format!("delete table inet {TABLE}\n")
}

/// In hexadecimal: nft 1.0.6 (Debian 12) does not read an IPv4 address in an IPv6 one.
fn translated(address: Ipv4Addr) -> String {
    let [.., high, low] = address.to_ipv6_mapped().segments();
    format!("::ffff:{high:x}:{low:x}, 64:ff9b::{high:x}:{low:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_one_transaction_and_name_who_passes() {
        let rules = raise(&BTreeSet::from([991, 0, 4711]));
        assert!(
            rules.starts_with("add table inet landfall_guard\ndelete table inet landfall_guard\ntable inet "),
            "{rules}"
        );
        assert!(rules.contains("\t\tmeta skuid { 0, 991, 4711 } accept\n"), "{rules}");
        for hook in ["prerouting priority -300", "forward priority 0", "output priority -300"] {
            assert!(rules.contains(&format!("type filter hook {hook}; policy accept;")), "{hook}");
        }
        assert_eq!(rules.matches("\t\tip daddr 169.254.169.254 drop\n").count(), 2);
        assert_eq!(rules.matches("ip daddr 168.63.129.16 tcp dport { 80, 32526 } drop").count(), 1);
        assert_eq!(rules.matches("{ ::ffff:a9fe:a9fe, 64:ff9b::a9fe:a9fe } drop").count(), 2);
        // Whoever passes is judged before anything is dropped.
        let sent = rules.split("chain sent").nth(1).unwrap();
        assert!(sent.find("accept\n") < sent.find("drop"), "{sent}");
    }
}
