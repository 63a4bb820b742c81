//! What an edit changes, a line each. An edit is one place, so the two ends that are equal are all there is to find.
//! What stands around it is not shown: other servers' keys are there.

/// Where it changes, and the lines that go and come; empty where nothing changes.
pub(super) fn lines(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_from_top = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - same_from_top;
    let same_from_end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let gone = old[same_from_top..old.len() - same_from_end].iter().map(|line| format!("-{}\n", plain(line)));
    let come = new[same_from_top..new.len() - same_from_end].iter().map(|line| format!("+{}\n", plain(line)));
    let changes: String = gone.chain(come).collect();
    if changes.is_empty() { changes } else { format!("@@ line {} @@\n{changes}", same_from_top + 1) }
}

/// A line that a terminal does not act on: a project's files may be anybody's.
fn plain(line: &str) -> String {
    line.chars().map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_shown_and_nothing_around_it() {
        let table = [
            ("", "", ""),
            ("a\n", "a\n", ""),
            ("", "a\nb\n", "@@ line 1 @@\n+a\n+b\n"),
            ("a\nb\n", "", "@@ line 1 @@\n-a\n-b\n"),
            ("1\n2\n3\n4\n", "1\n2\nx\n4\n", "@@ line 3 @@\n-3\n+x\n"),
            ("a\na\n", "a\na\na\n", "@@ line 3 @@\n+a\n"),
            ("", "\t\u{1b}[2J\n", "@@ line 1 @@\n+\t\u{fffd}[2J\n"),
        ];
        for (before, after, expected) in table {
            assert_eq!(lines(before, after), expected, "{before:?} {after:?}");
        }
    }
}
