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
        let mut wrong = Vec::new();
        for flag in run.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag))) {
            let (long, flag) = flag;
            let Some(env) = flag.get_env().map(|env| env.to_string_lossy().into_owned()) else { continue };
            let row = page.prose().map(|(_, line)| line).find(|line| line.starts_with(&format!("| `--{long} ")));
            let default = flag.get_default_values().first().map(|value| format!("`{}`", value.to_string_lossy()));
            let holds =
                |row: &&str| row.contains(&format!("`{env}`")) && default.iter().all(|value| row.contains(value));
            if !row.as_ref().is_some_and(holds) {
                wrong.push(format!("--{long}, {env}, {default:?}: {row:?}"));
            }
        }
        let rows = page.prose().filter(|(_, line)| line.starts_with("| `--")).count();
        assert!(rows > 8, "{path}: {rows} rows");
        assert!(wrong.is_empty(), "{path}:\n{}", wrong.join("\n"));
    }
}
