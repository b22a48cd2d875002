//! The proxy's configuration file: nginx's shape, a handful of its directives. Unknown ones are errors, as nginx has it.

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The port to listen on.
    pub listen: u16,
    /// In file order; the longest matching prefix wins.
    pub locations: Vec<Location>,
}

/// One `location PREFIX { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// What the path begins with.
    pub prefix: String,
    /// The upstream as `host:port`, resolved at each request.
    pub upstream: String,
    /// How often a connection error is tried again: 0 or 1.
    pub retry: u32,
    /// Added to each answer, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Config {
    /// The location that serves a path.
    pub fn location(&self, target: &str) -> Option<&Location> {
        self.locations.iter().filter(|l| target.starts_with(&l.prefix)).max_by_key(|l| l.prefix.len())
    }
}

/// Parses the file's text; the error names the directive.
pub fn parse(text: &str) -> Result<Config, String> {
    let spaced: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| [line, " "])
        .collect::<String>()
        .replace(';', " ; ")
        .replace('{', " { ")
        .replace('}', " } ");
    let mut words = spaced.split_whitespace();
    let mut config = Config { listen: 80, locations: Vec::new() };
    while let Some(word) = words.next() {
        match word {
            "listen" => config.listen = last(&mut words, word)?.parse().map_err(|_| "`listen` wants a port")?,
            "location" => {
                let prefix = words.next().ok_or("`location` wants a prefix")?.to_owned();
                if words.next() != Some("{") {
                    return Err(format!("`location {prefix}` wants a `{{`"));
                }
                config.locations.push(location(prefix, &mut words)?);
            }
            other => return Err(format!("unknown directive `{other}`")),
        }
    }
    if config.locations.is_empty() { Err("no `location`".to_owned()) } else { Ok(config) }
}

fn location<'a>(prefix: String, words: &mut impl Iterator<Item = &'a str>) -> Result<Location, String> {
    let mut location = Location { prefix, upstream: String::new(), retry: 0, headers: Vec::new() };
    loop {
        match words.next() {
            Some("proxy_pass") => {
                let url = last(words, "proxy_pass")?;
                let host = url.strip_prefix("http://").ok_or("`proxy_pass` wants a http:// URL")?.trim_end_matches('/');
                location.upstream = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
            }
            Some("retry") => {
                let count = last(words, "retry")?;
                location.retry =
                    count.parse().ok().filter(|n| *n <= 1).ok_or_else(|| format!("`retry {count}`: 0 or 1"))?;
            }
            Some("add_header") => {
                let name = words.next().ok_or("`add_header` wants a name")?.to_ascii_lowercase();
                location.headers.push((name, last(words, "add_header")?.to_owned()));
            }
            Some("}") if location.upstream.is_empty() => {
                return Err(format!("`location {}` has no `proxy_pass`", location.prefix));
            }
            Some("}") => return Ok(location),
            Some(other) => return Err(format!("unknown directive `{other}`")),
            None => return Err(format!("`location {}` wants a `}}`", location.prefix)),
        }
    }
}

/// The last word of a directive, with the `;` behind it.
fn last<'a>(words: &mut impl Iterator<Item = &'a str>, directive: &str) -> Result<&'a str, String> {
    match (words.next(), words.next()) {
        (Some(value), Some(";")) if value != ";" => Ok(value),
        _ => Err(format!("`{directive}` wants one value and a `;`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read_and_the_longest_prefix_wins() {
        let text = "listen 8080; # here\nlocation / { proxy_pass http://api:8080; retry 1; add_header X-Site one; }\n\
                    location /static/{proxy_pass http://files;}";
        let config = parse(text).unwrap();
        assert_eq!(config.listen, 8080);
        assert_eq!(config.location("/static/a").unwrap().upstream, "files:80");
        let root = config.location("/x").unwrap();
        assert_eq!((root.upstream.as_str(), root.retry), ("api:8080", 1));
        assert_eq!(root.headers, [("x-site".to_owned(), "one".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "location"),
            ("listen eighty;", "listen"),
            ("gzip on;", "gzip"),
            ("location / { }", "proxy_pass"),
            ("location / { proxy_pass http://api:1", "proxy_pass"),
            ("location / { proxy_pass http://api; retry 5; }", "retry 5"),
            ("location / { proxy_pass http://api;", "}"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
