//! The web page of a site.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::utc::Utc;

/// Serves the page at `/` and the bare name at `/site`.
pub async fn serve(listener: TcpListener, site: String) -> io::Result<()> {
    let router = Router::new().route("/", get(page)).route("/site", get(name)).with_state(site);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn name(State(site): State<String>) -> String {
    site + "\n"
}

async fn page(State(site): State<String>, client: ConnectInfo<SocketAddr>) -> Html<String> {
    Html(render(&site, client.0, &Utc::now().rfc3339()))
}

/// The site's name consists of letters, digits and dots (see [`super::site_name`]), so nothing here
/// needs escaping.
fn render(site: &str, client: SocketAddr, now: &str) -> String {
    let ip = client.ip();
    let family = if client.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{site}</title>\n\
         <style>:root{{color-scheme:light dark}}\
         body{{font:18px/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em}}\
         strong{{font-size:2em}}</style>\n\
         <p>You were answered by<br><strong>{site}</strong></p>\n\
         <dl><dt>Your address</dt><dd>{ip} ({family})</dd>\
         <dt>The time here</dt><dd><time datetime=\"{now}\">{now}</time></dd></dl>\n\
         <p>Every site of this service has the same address; you reach the nearest that lives. \
         The bare name is at <a href=\"/site\">/site</a>.</p>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_site_the_client_and_the_time() {
        let page = render("fra", "[2001:db8::2]:4000".parse().unwrap(), "2026-11-23T18:53:20Z");
        for part in ["<strong>fra</strong>", "2001:db8::2 (IPv6)", "2026-11-23T18:53:20Z"] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
    }
}
