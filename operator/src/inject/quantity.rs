//! Kubernetes quantities, as far as they must be compared and added.
//!
//! A value in billionths (the finest the API knows), so that `100m`, `0.1` and `100000u` are one.
//! A quantity that is kept is kept as the user wrote it: nothing here writes one back, except
//! [`mebibytes`].

/// `text` in billionths; `None` when it is no quantity.
#[must_use]
pub fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => {
            let power = "KMGTPE".find(suffix.chars().next()?)? + 1;
            1_000_000_000 << (10 * power)
        }
        "k" | "M" | "G" | "T" | "P" | "E" => {
            let power = u32::try_from("kMGTPE".find(suffix)?).ok()? + 1;
            1_000_000_000 * 1000_i128.pow(power)
        }
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|exponent| *exponent <= 18)?;
            1_000_000_000 * 10_i128.pow(exponent)
        }
    };
    scaled(number, factor)
}

/// `number * factor`; what is finer than a billionth counts as one more.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction.chars().take(9).collect();
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? }.checked_mul(factor)?;
    if !fraction.is_empty() {
        let unit = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        value = value.checked_add((fraction.parse::<i128>().ok()?.checked_mul(factor)? + unit - 1) / unit)?;
    }
    Some(sign * value)
}

/// Billionths of a byte as a quantity of whole mebibytes, rounded up.
#[must_use]
pub fn mebibytes(billionths: i128) -> String {
    const MEBIBYTE: i128 = 1_000_000_000 << 20;
    format!("{}Mi", (billionths + MEBIBYTE - 1) / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_many_spellings() {
        for same in [["100m", "0.1"], ["1Gi", "1024Mi"], ["1e3", "1k"], ["1.5Gi", "1536Mi"], ["2", "+2000m"]] {
            assert!(parse(same[0]).is_some());
            assert_eq!(parse(same[0]), parse(same[1]), "{same:?}");
        }
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("8Ei") > parse("7E"));
        assert_eq!(mebibytes(parse("1G").unwrap()), "954Mi");
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for bad in ["", "Gi", "1gi", "1 Gi", "1.2.3", "1e99", "--1", "12345678901234567890", "é", "1Gé"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
