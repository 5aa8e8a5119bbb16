//! Prints the CRD; `make crds` writes it to `crds/remotemounts.yaml`.
#![forbid(unsafe_code)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", remotemount_crds::crd_yaml()?);
    Ok(())
}
