//! The tables of flags are those of the programs.

use clap::CommandFactory as _;

use crate::pages;

#[test]
fn every_flag_is_in_its_table() {
    let programs = [
        (remotemount_operator::args::Args::command(), "docs/guide/operator.md"),
        (remotemount_sidecar::args::Args::command(), "docs/guide/without-a-cluster.md"),
    ];
    for (program, path) in programs {
        let page = pages::page(path);
        let run = program.find_subcommand("run").expect("run");
        let rows: Vec<&str> = page.prose().map(|(_, line)| line).filter(|line| line.starts_with("| `--")).collect();
        assert!(rows.len() > 8, "{path}: {} rows", rows.len());
        let (mut wrong, mut flags) = (Vec::new(), 0);
        for (long, flag) in run.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag))) {
            let Some(env) = flag.get_env().map(|env| env.to_string_lossy().into_owned()) else { continue };
            flags += 1;
            let of: Vec<_> = rows.iter().filter(|row| row.starts_with(&format!("| `--{long} "))).collect();
            let default = flag.get_default_values().first().map(|value| format!("`{}`", value.to_string_lossy()));
            let holds =
                |row: &str| row.contains(&format!("`{env}`")) && default.iter().all(|value| row.contains(value));
            if of.len() != 1 || !of.iter().all(|row| holds(row)) {
                wrong.push(format!("--{long}, {env}, {default:?}: {of:?}"));
            }
        }
        assert!(wrong.is_empty(), "{path}:\n{}", wrong.join("\n"));
        assert_eq!(rows.len(), flags, "{path}: a row of a flag that is not there");
    }
}
