//! Which proxy leads to a URL: the scheme decides, and what is spared.

use std::net::IpAddr;

use http::Uri;

use super::Proxy;

/// The ways out of one integration, whatever the URL. The default is straight to every host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// For `http` and for `https`.
    proxies: [Option<Proxy>; 2],
    /// Hosts without proxy; `None` spares not even loopback.
    spared: Option<Vec<String>>,
}

impl Routes {
    /// Through `proxy` to every host.
    pub(super) fn always(proxy: &Proxy) -> Self {
        Self { proxies: [Some(proxy.clone()), Some(proxy.clone())], spared: None }
    }

    /// Through these, for `http` and for `https`, but to the hosts in `no_proxy` and to loopback.
    pub(super) fn sparing(proxies: [Option<Proxy>; 2], no_proxy: Vec<String>) -> Self {
        Self { proxies, spared: Some(no_proxy) }
    }

    /// The way to `url`; straight to a cloud's metadata service, whatever is set.
    pub fn to(&self, url: &Uri) -> Proxy {
        if is_beside_us(url) {
            return Proxy::Direct;
        }
        if self.spared.as_ref().is_some_and(|list| is_spared(url, list)) {
            return Proxy::Direct;
        }
        let secure = usize::from(url.scheme_str() == Some("https"));
        self.proxies[secure].clone().unwrap_or(Proxy::Direct)
    }
}

/// Whether it is the service with which a cloud's machine asks who it is: no proxy could answer that for it.
fn is_beside_us(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("metadata.google.internal")
        || host.parse::<IpAddr>().is_ok_and(|address| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        })
}

/// Whether no proxy is used for `uri`: loopback, and what `no_proxy` lists (`*`, a host and what is below it, `.suffix`,
/// an address, a range such as `10.0.0.0/8`, each also with a port).
fn is_spared(uri: &Uri, no_proxy: &[String]) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    let port = uri.port_u16().unwrap_or_else(|| if uri.scheme_str() == Some("https") { 443 } else { 80 });
    no_proxy.iter().any(|entry| matches(entry, &host, address, port))
}

/// Why no host could ever be what `entry` of `no_proxy` says, in words that follow it.
pub(super) fn flaw(entry: &str) -> Option<&'static str> {
    if entry.contains("://") {
        return Some("is a URL: write its host alone");
    }
    if entry.contains('@') {
        return Some("holds a user: write the host alone");
    }
    if entry.contains(';') {
        return Some("holds a `;`: commas or blanks stand between entries");
    }
    let name = match entry.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') || name.ends_with(']') => name,
        _ => entry,
    };
    let name = name.trim_matches(['[', ']']).trim_start_matches("*.");
    if name == "*" || name.parse::<IpAddr>().is_ok() {
        return None;
    }
    if let Some((network, bits)) = name.split_once('/') {
        let is_range =
            network.parse().is_ok_and(|network| is_within(network, &network.to_string(), bits).is_some());
        return (!is_range).then_some("is no range of addresses such as 10.0.0.0/8");
    }
    if name.contains('*') {
        return Some(
            "has a `*` in a place where none is known: it stands alone, or first as in *.example.com",
        );
    }
    let is_in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !name.trim_start_matches('.').is_empty() && name.chars().all(is_in_names);
    (!is_name).then_some("is neither the name of a host nor an address")
}

fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let entry = match entry.rsplit_once(':') {
        Some((name, own)) if !name.contains(':') || name.ends_with(']') => match own.parse::<u16>() {
            Ok(own) if own != port => return false,
            _ => name,
        },
        _ => entry,
    };
    let entry = entry.trim_matches(['[', ']']).trim_start_matches("*.");
    let bare = entry.trim_start_matches('.');
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        return is_within(address, network, bits).unwrap_or(false);
    }
    if let Some(address) = address {
        return entry.parse() == Ok(address);
    }
    !bare.is_empty() && (host == bare || host.strip_suffix(bare).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether `address` lies in `network/bits`; `None` if that is no range of its kind.
fn is_within(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let (network, bits): (IpAddr, u32) = (network.parse().ok()?, bits.parse().ok()?);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let free = 32_u32.checked_sub(bits)?;
            Some((u32::from(a) ^ u32::from(n)).checked_shr(free).unwrap_or(0) == 0)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let free = 128_u32.checked_sub(bits)?;
            Some((u128::from(a) ^ u128::from(n)).checked_shr(free).unwrap_or(0) == 0)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_metadata_service_is_asked_by_the_machine_itself() {
        let proxy = Proxy::Through { url: Secret::new("http://p:1"), shown: "http://p:1".to_owned() };
        let always = Routes::always(&proxy);
        for url in ["http://metadata.google.internal/x", "http://169.254.169.254/x", "http://[fe80::1]/x"] {
            assert_eq!(always.to(&url.parse().unwrap()), Proxy::Direct, "{url}");
        }
        assert_eq!(always.to(&"http://127.0.0.1/x".parse().unwrap()), proxy);
        assert_eq!(Routes::default().to(&"https://a.example/x".parse().unwrap()), Proxy::Direct);
    }

    fn spared(url: &str, list: &str) -> bool {
        let list: Vec<_> = list.split(',').map(str::to_owned).collect();
        is_spared(&url.parse().unwrap(), &list)
    }

    #[test]
    fn no_proxy_knows_hosts_suffixes_ports_addresses_and_ranges() {
        for (url, list) in [
            ("http://127.0.0.1:80/", ""),
            ("http://[::1]/", ""),
            ("http://localhost/", ""),
            ("https://a.example/", "*"),
            ("https://a.example/", "a.example"),
            ("https://A.Example/", "a.example"),
            ("https://b.a.example/", "a.example"),
            ("https://b.a.example/", ".a.example"),
            ("https://b.a.example/", "*.a.example"),
            ("https://gw.ns.svc/", ".svc"),
            ("https://a.example/", "x,a.example:443"),
            ("http://10.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3/", "10.1.2.3"),
            ("http://[fd00::1]:8080/", "fd00::/8"),
            ("http://[fd00::1]:8080/", "[fd00::1]:8080"),
        ] {
            assert!(spared(url, list), "{url} is not spared by {list}");
            assert!(list.split(',').all(|entry| entry.is_empty() || flaw(entry).is_none()), "{list}");
        }
        for (url, list) in [
            ("https://a.example/", ""),
            ("https://xa.example/", "a.example"),
            ("https://a.example/", "b.a.example"),
            ("https://a.example:8443/", "a.example:443"),
            ("http://11.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3/", "10.1.2"),
            ("http://10.1.2.3/", "10.0.0.0/99"),
            ("https://a.example/", "."),
        ] {
            assert!(!spared(url, list), "{url} is spared by {list}");
        }
    }

    #[test]
    fn an_entry_of_no_proxy_that_no_host_can_be_is_known_as_such() {
        for (entry, words) in [
            ("https://a.example", "a URL"),
            ("a.example;b.example", "`;`"),
            ("10.0.0.0/99", "no range"),
            ("fd00::/200", "no range"),
            ("10.0.0/8", "no range"),
            ("a.example/v1", "no range"),
            ("169.254.*", "`*`"),
            ("*a.example", "`*`"),
            (".", "neither"),
            ("\"a.example\"", "neither"),
            ("me:secret@a.example", "a user"),
        ] {
            assert!(flaw(entry).is_some_and(|why| why.contains(words)), "{entry}: {:?}", flaw(entry));
            assert!(!spared("http://10.1.2.3/", entry) && !spared("http://a.example/", entry), "{entry}");
        }
        for entry in
            ["a_b.example", "[fd00::1]:80", "fd00::1", "10.0.0.1:80", "a.example:443", "0.0.0.0/0", "::/0"]
        {
            assert_eq!(flaw(entry), None, "{entry}");
        }
    }
}
