//! What is sent: distinct `user.created` events as Clerk posts them, about 790 bytes each, signed the svix way at the time of
//! rendering (the tolerance is five minutes; a run is far shorter), head and body in one piece.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};

use crate::Failure;

const FIRST_NAMES: [&str; 8] =
    ["Ada", "Grace", "Edsger", "Barbara", "Alan", "Radia", "Donald", "Frances"];
const LAST_NAMES: [&str; 8] =
    ["Lovelace", "Hopper", "Dijkstra", "Liskov", "Turing", "Perlman", "Knuth", "Allen"];
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `count` requests to `path`, no two with the same message id, nor with those of another call. No two are of the same user either, or they are
/// of so many `users` in turn.
pub fn signed(
    path: &str,
    secret: &str,
    count: usize,
    users: usize,
) -> Result<Vec<Box<[u8]>>, Failure> {
    let secret = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let key = Hmac::<sha2::Sha256>::new_from_slice(&secret)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut ids = Ids(now.as_nanos() as u64 | 1);
    Ok((0..count)
        .map(|number| {
            let (message, at) = (format!("msg_{}", ids.next(27)), now.as_secs());
            let user = match users {
                0 => ids.next(27),
                users => format!("{:027}", number % users),
            };
            let body = user_created(&mut ids, &user, number, now.as_millis());
            let mac = key.clone().chain_update(format!("{message}.{at}.{body}"));
            let signature = STANDARD.encode(mac.finalize().into_bytes());
            format!(
                "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: Svix-Webhooks/1.62\r\naccept: */*\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\nsvix-id: {message}\r\n\
                 svix-timestamp: {at}\r\nsvix-signature: v1,{signature}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
            .into_boxed_slice()
        })
        .collect())
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n").into_bytes()
}

fn user_created(ids: &mut Ids, user: &str, number: usize, now_ms: u128) -> String {
    let email = ids.next(27);
    let first = FIRST_NAMES[number % 8];
    let last = LAST_NAMES[number / 8 % 8];
    format!(
        r#"{{"data":{{"birthday":"","created_at":{now_ms},"email_addresses":[{{"email_address":"{first}.{last}.{number}@example.com","id":"idn_{email}","linked_to":[],"object":"email_address","verification":{{"status":"verified","strategy":"ticket"}}}}],"external_accounts":[],"external_id":"{number}","first_name":"{first}","id":"user_{user}","image_url":"https://img.clerk.com/{}","last_name":"{last}","last_sign_in_at":{now_ms},"object":"user","password_enabled":true,"phone_numbers":[],"primary_email_address_id":"idn_{email}","primary_phone_number_id":null,"private_metadata":{{}},"public_metadata":{{}},"two_factor_enabled":false,"unsafe_metadata":{{}},"updated_at":{now_ms},"username":null,"web3_wallets":[]}},"object":"event","timestamp":{now_ms},"type":"user.created"}}"#,
        ids.next(20),
    )
}

/// Made-up ids of the shape that providers use (xorshift64*).
struct Ids(u64);

impl Ids {
    fn next(&mut self, length: usize) -> String {
        let mut letter = || {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
            char::from(LETTERS[mixed as usize % LETTERS.len()])
        };
        (0..length).map(|_| letter()).collect()
    }
}
