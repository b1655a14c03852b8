//! Whether a server speaks TLS at all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a server may think about the beginning of TLS. One that waits for
/// a line of text hears none, and says nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a server whether it speaks TLS: sends the beginning of a handshake and
/// looks at the first byte of the answer. Fails if there is no connection
/// within `limit`.
pub(crate) async fn speaks_tls(
    host: &str,
    port: u16,
    config: ClientConfig,
    limit: Duration,
) -> io::Result<bool> {
    let hello = client_hello(host, config)?;
    let host = host.trim_matches(['[', ']']);
    let mut stream = tokio::time::timeout(limit, TcpStream::connect((host, port)))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let answer = async {
        stream.write_all(&hello).await?;
        stream.read_u8().await
    };
    Ok(match tokio::time::timeout(PATIENCE, answer).await {
        // A handshake or an alert.
        Ok(Ok(first)) => matches!(first, 0x15 | 0x16),
        // It hung up, or it waits for more.
        Ok(Err(_)) | Err(_) => false,
    })
}

fn client_hello(host: &str, config: ClientConfig) -> io::Result<Vec<u8>> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
