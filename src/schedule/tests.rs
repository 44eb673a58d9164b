//! What schedules are read as, what is said of those that are none, and when they run: around changes of clocks, leap days and the ends
//! of years, and compared with a walk through every minute.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Time};
use proptest::prelude::*;

use super::*;

fn parse(expression: &str, zone: &str) -> Schedule {
    let zone = (zone != "UTC").then_some(zone);
    Schedule::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn millis(text: &str) -> Millis {
    Millis(text.parse::<Timestamp>().expect(text).as_millisecond())
}

/// The runs after `after` are these, to the minute and with their offsets.
fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = parse(expression, zone);
    let in_zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let mut last = millis(after);
    for expected in expected {
        last = schedule.next_after(last).expect(expression);
        let run = Timestamp::from_millisecond(last.0).unwrap().to_zoned(in_zone.clone());
        assert_eq!(run.strftime("%Y-%m-%dT%H:%M%:z").to_string(), *expected, "{expression}");
    }
}

fn check_refused(expression: &str, zone: Option<&str>, expected: &str) {
    let error = Schedule::parse(expression, zone).expect_err(expression).to_string();
    assert!(error.contains(expected), "{expression}: {error}");
}

#[test]
fn an_interval_counts_from_the_time_given() {
    let schedule = parse("5m", "UTC");
    assert_eq!(schedule.next_after(Millis(1)), Some(Millis(300_001)));
    assert_eq!(schedule.next_after(Millis(i64::MAX - 1)), Some(Millis(i64::MAX)));
    assert_eq!(schedule.next_after(Millis(i64::MAX)), None);
    for text in ["1s", "366d", " 90m "] {
        parse(text, "UTC");
    }
}

#[test]
fn an_interval_out_of_bounds_or_with_a_zone_is_refused() {
    check_refused("999ms", None, "less than 1s is too short");
    check_refused("0s", None, "less than 1s is too short");
    check_refused("367d", None, "more than 366d is too long");
    check_refused("5 minutes", None, "write `5m`; a cron expression has five fields");
    check_refused("300", None, "write `300s`");
    check_refused("", None, "it is empty");
    check_refused("soon", None, "a whole number and a unit");
    check_refused("1h", Some("Europe/Berlin"), "an interval has no time zone");
}

#[test]
fn different_spellings_are_one_schedule() {
    let same = |left: &str, right: &str| assert_eq!(parse(left, "UTC"), parse(right, "UTC"));
    same("*/15 * * * *", "0,15,30-59/15 * * * *");
    same("0 0 * JAN,dec *", " 0  0 * 1,12 * ");
    same("0 0 * * 0", "0 0 * * 7");
    same("0 0 * * FRI-SUN", "0 0 * * 5-7");
    same("0 0 * * sun", "@weekly");
    same("0 0 * * */2", "0 0 * * 0-6/2,*/2");
    same("@hourly", "0 * * * *");
    same("@daily", "0 0 * * *");
    same("@monthly", "0 0 1 * *");
    same("@yearly", "0 0 1 1 *");
    same("07 9 * * *", "7 09 * * *");
    assert_eq!(
        Schedule::parse("0 0 * * *", Some("europe/berlin")),
        Schedule::parse("0 0 * * *", Some("Europe/Berlin"))
    );
}

#[test]
fn a_field_that_cannot_be_read_is_named_with_what_may_stand_there() {
    check_refused(
        "60 * * * *",
        None,
        "the field minute holds `60`, which it cannot mean; minute takes `*`, numbers from 0 to 59",
    );
    check_refused("0 1,24 * * *", None, "the field hour holds `24`");
    check_refused(
        "0 0 0 * *",
        None,
        "the field day-of-month holds `0`, which it cannot mean; day-of-month takes `*`, numbers from 1 to 31",
    );
    check_refused("0 0 1 13 *", None, "numbers from 1 to 12, names from `JAN` to `DEC`");
    check_refused("0 0 * * 8", None, "names from `SUN` to `SAT` (0, 7 and `SUN` are Sunday)");
    check_refused("0 0 * * MONDAY", None, "the field day-of-week holds `MONDAY`");
    check_refused("0 MON * * *", None, "the field hour holds `MON`");
    check_refused("+5 * * * *", None, "the field minute holds `+5`");
    check_refused("1,,2 * * * *", None, "the field minute holds ``");
    check_refused("1- * * * *", None, "the field minute holds `1-`");
    check_refused("1-2-3 * * * *", None, "the field minute holds `1-2-3`");
    check_refused(
        "0 22-5 * * *",
        None,
        "holds `22-5`, a range that ends before it begins; write it as two",
    );
    check_refused("*/0 * * * *", None, "holds `*/0`, whose step is no whole number");
    check_refused("*/90 * * * *", None, "is an interval, such as `90m`");
    check_refused("*/ * * * *", None, "whose step");
    check_refused("5/15 * * * *", None, "write where it ends, such as `5-59/15`");
    check_refused("0 0 ? * *", None, "holds `?`, which only other dialects of cron know");
    for day in ["L", "15W", "LW"] {
        check_refused(&format!("0 0 {day} * *"), None, "only other dialects");
    }
    check_refused("0 0 * * 5#2", None, "only other dialects");
}

#[test]
fn an_expression_of_another_shape_is_refused_with_what_is_meant() {
    check_refused("0 0 9 * * *", None, "here are six: leave the seconds out");
    check_refused("0 9 * *", None, "and here are 4");
    check_refused("*", None, "and here are 1");
    check_refused("0 0 9 * * * 2026", None, "and here are 7");
    check_refused("@every 5m", None, "an interval is written as `5m`");
    check_refused("@reboot", None, "the nicknames are");
    check_refused("@", None, "the nicknames are");
    check_refused(&"1,".repeat(200), None, "at most 256 bytes");
}

#[test]
fn a_date_that_no_year_has_is_refused() {
    check_refused("0 0 31 2 *", None, "day-of-month `31` never comes in month `2`");
    check_refused("0 0 31 2,APR,6 *", None, "day-of-month `31` never comes in month `2,APR,6`");
    check_refused("0 0 30-31 FEB */2", None, "never comes");
    parse("0 0 29 2 *", "UTC");
    parse("0 0 31 2,3 *", "UTC");
    // The weekday is enough.
    check("0 0 31 2 MON", "UTC", "2026-01-01T00:00:00Z", &["2026-02-02T00:00+00:00"]);
}

#[test]
fn an_unknown_zone_is_refused_with_the_nearest_name() {
    for (zone, nearest) in [
        ("Europe/Berln", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("US/New_York", "America/New_York"),
    ] {
        check_refused(
            "0 9 * * *",
            Some(zone),
            &format!("`{zone}` is no time zone (did you mean `{nearest}`?)"),
        );
    }
    for zone in ["", "Etc/Unknown", "+02:00", "../../etc/passwd", "Nowhere At All"] {
        check_refused("0 9 * * *", Some(zone), "is no time zone");
    }
    let long = Schedule::parse("0 9 * * *", Some(&"x".repeat(1 << 16))).expect_err("no zone");
    assert!(long.to_string().len() < 200);
}

#[test]
fn of_two_days_that_are_restricted_either_is_enough() {
    check(
        "0 12 13 * FRI",
        "UTC",
        "2026-02-01T00:00:00Z",
        &[
            "2026-02-06T12:00+00:00",
            "2026-02-13T12:00+00:00",
            "2026-02-20T12:00+00:00",
            "2026-02-27T12:00+00:00",
            "2026-03-06T12:00+00:00",
            "2026-03-13T12:00+00:00",
        ],
    );
    // A `*` restricts nothing by itself, so both have to match.
    check(
        "0 12 */10 * FRI",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-05-01T12:00+00:00", "2026-07-31T12:00+00:00"],
    );
    check(
        "0 0 * * MON",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-02-02T00:00+00:00", "2026-02-09T00:00+00:00"],
    );
    check(
        "0 0 31 * *",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-03-31T00:00+00:00", "2026-05-31T00:00+00:00"],
    );
}

#[test]
fn the_next_run_is_strictly_after() {
    check("0 9 * * *", "UTC", "2026-02-01T08:59:59.999Z", &["2026-02-01T09:00+00:00"]);
    check("0 9 * * *", "UTC", "2026-02-01T09:00:00Z", &["2026-02-02T09:00+00:00"]);
    check("* * * * *", "UTC", "2026-02-01T09:00:00.001Z", &["2026-02-01T09:01+00:00"]);
    check(
        "* * * * *",
        "UTC",
        "1969-12-31T23:58:59.999Z",
        &["1969-12-31T23:59+00:00", "1970-01-01T00:00+00:00"],
    );
}

#[test]
fn leap_days_and_ends_of_years() {
    check(
        "0 0 29 2 *",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"],
    );
    check("0 0 29 FEB *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00+00:00"]);
    // The rarest: a leap day on a Sunday, which the turn of a century moves 40 years away.
    check("0 0 29 2 */7", "UTC", "2088-03-01T00:00:00Z", &["2128-02-29T00:00+00:00"]);
    check(
        "59 23 31 12 *",
        "Asia/Kolkata",
        "2026-12-31T18:28:59Z",
        &["2026-12-31T23:59+05:30", "2027-12-31T23:59+05:30"],
    );
    check(
        "0 0 1 1 *",
        "Asia/Kathmandu",
        "2026-12-31T18:00:00Z",
        &["2027-01-01T00:00+05:45", "2028-01-01T00:00+05:45"],
    );
}

#[test]
fn o17_in_spring_an_hour_that_is_skipped_runs_once_at_the_end_of_the_gap() {
    let around = "2026-03-28T12:00:00Z";
    check(
        "30 2 * * *",
        "Europe/Berlin",
        around,
        &["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
    );
    check(
        "0 2,14 * * *",
        "Europe/Berlin",
        around,
        &["2026-03-28T14:00+01:00", "2026-03-29T03:00+02:00", "2026-03-29T14:00+02:00"],
    );
    check(
        "*/20 1-3 * * *",
        "Europe/Berlin",
        "2026-03-29T00:30:00Z",
        &["2026-03-29T01:40+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:20+02:00"],
    );
    // The night of the change only counts where its date matches.
    check("30 2 * * MON", "Europe/Berlin", around, &["2026-03-30T02:30+02:00"]);
    check(
        "30 2 29 3 *",
        "Europe/Berlin",
        around,
        &["2026-03-29T03:00+02:00", "2027-03-29T02:30+02:00"],
    );
    // Midnight itself is skipped.
    check(
        "0 0 * * *",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        &["2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"],
    );
}

#[test]
fn o17_in_autumn_an_hour_that_comes_twice_runs_the_first_time_only() {
    let around = "2026-10-24T12:00:00Z";
    check(
        "30 2 * * *",
        "Europe/Berlin",
        around,
        &["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
    );
    check(
        "*/30 1-2 * * *",
        "Europe/Berlin",
        around,
        &[
            "2026-10-25T01:00+02:00",
            "2026-10-25T01:30+02:00",
            "2026-10-25T02:00+02:00",
            "2026-10-25T02:30+02:00",
            "2026-10-26T01:00+01:00",
        ],
    );
    // Asked in the second pass.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["2026-10-26T02:30+01:00"]);
}

#[test]
fn o17_what_runs_in_every_hour_follows_real_time() {
    check(
        "30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"],
    );
    check(
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-24T23:30:00Z",
        &["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
    );
    check(
        "*/30 0-23 * * *",
        "America/New_York",
        "2026-11-01T05:15:00Z",
        &[
            "2026-11-01T01:30-04:00",
            "2026-11-01T01:00-05:00",
            "2026-11-01T01:30-05:00",
            "2026-11-01T02:00-05:00",
        ],
    );
    // A day that ends with the pass that is repeated: the expression's day has a longer end.
    check(
        "45 * 25 10 *",
        "Europe/Berlin",
        "2026-10-25T00:44:00Z",
        &["2026-10-25T02:45+02:00", "2026-10-25T02:45+01:00", "2026-10-25T03:45+01:00"],
    );
}

#[test]
fn o17_clocks_that_change_by_half_an_hour() {
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
    );
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T00:00:00Z",
        &["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"],
    );
    check(
        "45 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:00:00Z",
        &["2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30", "2026-04-05T02:45+10:30"],
    );
}

#[test]
fn o17_a_day_that_a_zone_never_had_is_made_up_when_the_next_begins() {
    check(
        "0 9,17 * * *",
        "Pacific/Apia",
        "2011-12-29T20:00:00Z",
        &["2011-12-29T17:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"],
    );
    check(
        "0 9 30 12 *",
        "Pacific/Apia",
        "2011-12-29T20:00:00Z",
        &["2011-12-31T00:00+14:00", "2012-12-30T09:00+14:00"],
    );
    check("0 * 30 12 *", "Pacific/Apia", "2011-12-29T20:00:00Z", &["2012-12-30T00:00+14:00"]);
}

#[test]
fn the_end_of_time_has_no_next_run() {
    for (expression, zone) in
        [("0 9 * * *", "Europe/Berlin"), ("* * * * *", "UTC"), ("0 0 29 2 *", "UTC")]
    {
        let schedule = parse(expression, zone);
        for after in [i64::MAX, Timestamp::MAX.as_millisecond()] {
            assert_eq!(schedule.next_after(Millis(after)), None, "{expression}");
        }
        assert!(schedule.next_after(Millis(i64::MIN)).is_some(), "{expression}");
    }
}

/// The rule of the module said in another way: walks through the minutes of real time with the farthest that the wall clock has shown.
fn by_walking(cron: &Cron, zone: &TimeZone, begin: Timestamp, end: Timestamp) -> Vec<i64> {
    let minute = jiff::SignedDuration::from_mins(1);
    let is_run = |local: DateTime| cron.first_from(local) == Some(local);
    let mut farthest = zone.to_datetime(begin);
    let mut runs = Vec::new();
    let mut at = begin;
    while at + minute <= end {
        at += minute;
        let local = zone.to_datetime(at);
        if cron.is_hourly() {
            if is_run(local) {
                runs.push(at.as_millisecond());
            }
            continue;
        }
        let mut is_due = false;
        while farthest < local {
            farthest += minute;
            is_due |= is_run(farthest);
        }
        if is_due {
            runs.push(at.as_millisecond());
        }
    }
    runs
}

/// Days around which clocks changed, and an ordinary one. Each walk begins outside of a repeated hour.
const WINDOWS: [(&str, &str); 12] = [
    ("UTC", "2024-02-28T12:00:00Z"),
    ("Europe/Berlin", "2026-03-28T12:00:00Z"),
    ("Europe/Berlin", "2026-10-24T12:00:00Z"),
    ("America/New_York", "2026-03-07T12:00:00Z"),
    ("America/New_York", "2026-10-31T12:00:00Z"),
    ("America/Sao_Paulo", "2018-11-03T12:00:00Z"),
    ("America/St_Johns", "2006-10-28T12:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T02:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T02:00:00Z"),
    ("Pacific/Apia", "2011-12-29T12:00:00Z"),
    ("Africa/Casablanca", "2026-02-14T12:00:00Z"),
    ("Asia/Kathmandu", "2026-12-30T12:00:00Z"),
];

fn field(least: i8, most: i8) -> impl Strategy<Value = String> {
    let number = least..=most;
    let pair = (number.clone(), number.clone(), 1..10_i8);
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..20_i8).prop_filter("wider than the field", move |step| *step <= most).prop_map(|step| format!("*/{step}")),
        2 => prop::collection::btree_set(number, 1..6).prop_map(|set: BTreeSet<i8>| {
            set.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
        }),
        1 => pair.prop_map(move |(a, b, step)| format!("{}-{}/{}", a.min(b), a.max(b), step.min(most))),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).prop_map(
        |(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn o17_runs_are_those_that_a_walk_through_every_minute_finds(
        minute in field(0, 59), hour in field(0, 23), weekday in field(0, 7), window in 0..WINDOWS.len(), offset in 0..60_i64,
    ) {
        let expression = format!("{minute} {hour} * * {weekday}");
        let (name, begin) = WINDOWS[window];
        let begin = begin.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_mins(offset);
        let end = begin + jiff::SignedDuration::from_hours(48);
        let schedule = parse(&expression, name);
        let Kind::Cron(cron, zone) = &schedule.0 else { panic!("{expression}") };
        let mut runs = Vec::new();
        let mut last = Millis(begin.as_millisecond());
        while let Some(next) = schedule.next_after(last) && next.0 <= end.as_millisecond() {
            runs.push(next.0);
            last = next;
        }
        prop_assert_eq!(runs, by_walking(cron, zone, begin, end), "{} in {}", expression, name);
    }

    #[test]
    fn every_expression_that_is_read_has_a_next_run_and_it_is_later(
        expression in expression(), window in 0..WINDOWS.len(), after in -62_135_596_800_000..200_000_000_000_000_i64,
    ) {
        if let Ok(schedule) = Schedule::parse(&expression, Some(WINDOWS[window].0)) {
            let first = schedule.next_after(Millis(after));
            prop_assert!(first.is_some_and(|first| first.0 > after), "{expression}");
            let second = first.and_then(|first| schedule.next_after(first));
            prop_assert!(second > first, "{expression}");
            // Nothing lies between: whatever time before the run is asked about, it is the next.
            let first = first.expect("was there").0;
            for between in [after + (first - after) / 2, first - 1] {
                prop_assert_eq!(schedule.next_after(Millis(between)), Some(Millis(first)));
            }
        }
    }

    #[test]
    fn a_calendar_day_matches_as_its_fields_say(expression in expression(), day in 0..40_000_i32, minute in 0..1440_i16) {
        if let Ok(cron) = cron::parse(&expression) {
            let date = Date::constant(1970, 1, 1) + jiff::ToSpan::days(day);
            let time = Time::constant(0, 0, 0, 0) + jiff::ToSpan::minutes(minute);
            let local = date.to_datetime(time);
            prop_assert_eq!(cron.first_from(local) == Some(local), matches_by_text(&expression, local));
        }
    }

    #[test]
    fn no_text_brings_the_parser_down(text in any::<String>(), fields in "[-0-9*/,A-Z@ ]{0,40}", zone in any::<String>(), after in any::<i64>()) {
        for text in [&text, &fields] {
            for zone in [None, Some(zone.as_str()), Some("Europe/Berlin")] {
                if let Ok(schedule) = Schedule::parse(text, zone) {
                    let _ = schedule.next_after(Millis(after));
                }
            }
        }
    }
}

/// Reads what `field` writes, in the plainest way.
fn matches_by_text(expression: &str, local: DateTime) -> bool {
    let fields: Vec<&str> = expression.split(' ').collect();
    let has = |text: &str, least: i8, number: i8| {
        text.split(',').any(|item| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (least, 59),
                Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
                None => (range.parse::<i8>().unwrap(), range.parse().unwrap()),
            };
            let step: i8 = step.parse().unwrap();
            first <= number && number <= last && (number - first) % step == 0
        })
    };
    let weekday = local.date().weekday().to_sunday_zero_offset();
    let day = has(fields[2], 1, local.day());
    let on_weekday = has(fields[4], 0, weekday)
        || weekday == 0 && !fields[4].starts_with('*') && has(fields[4], 0, 7);
    let either = !fields[2].contains('*') && !fields[4].contains('*');
    has(fields[0], 0, local.minute())
        && has(fields[1], 0, local.hour())
        && has(fields[3], 1, local.month())
        && if either { day || on_weekday } else { day && on_weekday }
}
