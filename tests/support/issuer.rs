//! An issuer of tokens: its keys, which are nobody's, and the server that publishes them, which misbehaves as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

use super::sender::now;

/// What every test's config names.
pub(crate) const ISSUER: &str = "https://clerk.example.com";
/// The public half of the first key.
pub(crate) const PUBLIC_PEM: &str = include_str!("../vectors/keys/rsa_1.pub.pem");

/// A key that signs.
pub(crate) struct SigningKey {
    kid: &'static str,
    pair: RsaKeyPair,
}

impl SigningKey {
    /// Named `one`.
    pub(crate) fn one() -> Self {
        Self::of("one", include_bytes!("../vectors/keys/rsa_1.pk8"))
    }

    /// Named `two`.
    pub(crate) fn two() -> Self {
        Self::of("two", include_bytes!("../vectors/keys/rsa_2.pk8"))
    }

    fn of(kid: &'static str, der: &[u8]) -> Self {
        Self { kid, pair: RsaKeyPair::from_pkcs8(der).expect("a key") }
    }

    /// As an issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let components: RsaPublicKeyComponents<Vec<u8>> = self.pair.public().into();
        let (n, e) = (encode(components.n), encode(components.e));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e })
    }

    /// A good token of a user, as of now.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_with(json!({}), json!({ "sub": user }))
    }

    /// The same with members of header and claims replaced; `null` takes one away.
    pub(crate) fn token_with(&self, header: Value, claims: Value) -> String {
        let now = now();
        let good = json!({
            "iss": ISSUER, "sub": "user_1", "azp": "http://localhost:5173",
            "iat": now, "nbf": now - 10, "exp": now + 60 * 60 * 24 * 30,
        });
        let header = merged(json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid }), header);
        self.sign(&header.to_string(), &merged(good, claims).to_string())
    }

    /// Any header and claims, signed.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        self.pair
            .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
            .expect("it signs");
        format!("{signed}.{}", encode(signature))
    }

    /// The key as `HS256` tricks would use it: what the world knows of it.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn merged(mut good: Value, changes: Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut good, changes) else {
        panic!("both are objects")
    };
    members.extend(changes);
    members.retain(|_, value| !value.is_null());
    good
}

/// How the server of keys answers.
#[derive(Clone, Debug)]
pub(crate) enum Publishes {
    /// 200 with this text.
    Text(String),
    /// This status.
    Status(u16),
    /// A redirect to this URL.
    Redirect(String),
    /// 10 MB.
    Much,
    /// It takes the request and says nothing.
    Nothing,
    /// 200 with this text, a moment later.
    Late(String),
}

impl Publishes {
    /// A set of these keys.
    pub(crate) fn keys(keys: &[Value]) -> Self {
        Self::Text(json!({ "keys": keys }).to_string())
    }
}

/// The server of keys.
pub(crate) struct KeyServer {
    address: SocketAddr,
    state: Arc<Mutex<(Publishes, usize)>>,
}

impl KeyServer {
    pub(crate) fn start(publishes: Publishes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let state = Arc::new(Mutex::new((publishes, 0)));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Self { address, state }
    }

    /// With the one key of every test.
    pub(crate) fn with_one() -> Self {
        Self::start(Publishes::keys(&[SigningKey::one().jwk()]))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    /// From now on it answers so.
    pub(crate) fn publish(&self, publishes: Publishes) {
        self.state.lock().unwrap().0 = publishes;
    }

    /// How often it was asked.
    pub(crate) fn fetches(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<(Publishes, usize)>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let publishes = {
        let mut state = state.lock().unwrap();
        state.1 += 1;
        state.0.clone()
    };
    let (status, more, body) = match publishes {
        Publishes::Text(text) => (200, String::new(), text),
        Publishes::Status(status) => (status, String::new(), "{\"keys\":[]}".to_owned()),
        Publishes::Redirect(url) => (302, format!("location: {url}\r\n"), String::new()),
        Publishes::Much => {
            (200, String::new(), format!("{{\"keys\":[],\"a\":{:?}}}", "x".repeat(10_000_000)))
        }
        Publishes::Nothing => {
            // Until the other end has had enough.
            _ = stream.read(&mut byte);
            return;
        }
        Publishes::Late(text) => {
            // The case itself: an answer that takes so long.
            std::thread::sleep(Duration::from_millis(300));
            (200, String::new(), text)
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    _ = stream.write_all(head.as_bytes());
    _ = stream.write_all(body.as_bytes());
}
