//! Which addresses are public: all that `http` may call unless the worker allows more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Refuses hosts that are written as private addresses; names are checked when they are resolved.
pub(super) fn check(url: &Url, private_addresses: bool) -> Result<(), String> {
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    if private_addresses || is_public(address) { Ok(()) } else { Err(private(&address.to_string())) }
}

fn private(host: &str) -> String {
    format!(
        "{host} is not a public address; a worker calls those only when it is started with --allow-private-addresses"
    )
}

/// Resolves names to public addresses only. Checking here, and not before, leaves no gap in which a name could change.
pub(super) struct PublicResolver {
    pub(super) private_addresses: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private_addresses = self.private_addresses;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|a| private_addresses || is_public(a.ip())).collect();
            if allowed.is_empty() {
                return Err(private(&host).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Global unicast only, which is 2000::/3, without what leads elsewhere: an address that hides an IPv4 address in it could
/// hide a private one.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [first, second, ..] = address.segments();
    first & 0xe000 == 0x2000
        // 2001::/23 is for protocols, Teredo (2001::/32) among them; 2002::/16 is 6to4; the others are documentation.
        && !(first == 0x2001 && second < 0x200)
        && first != 0x2002
        && !(first == 0x2001 && second == 0xdb8)
        && !(first == 0x3fff && second < 0x1000)
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        // The relays of 6to4.
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for text in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "192.88.99.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fd00::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "::7f00:1",
            "2001:0:7f00:1::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in
            ["93.184.216.34", "1.1.1.1", "192.89.0.1", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:1.1.1.1"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
