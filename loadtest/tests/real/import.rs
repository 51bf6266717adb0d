//! Ten thousand rows of which three are bad.

use std::process::Command;

use anyhow::{Context, ensure};
use picket_load::real::mesh::Mesh;
use picket_load::real::nginx::Nginx;
use picket_wire::api::status::MeshStatus;

const ROWS: usize = 10_000;

/// What a good file, a mended file and no file at all come to.
pub(crate) async fn bad_rows_are_refused_alone() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("picket-import-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let nginx = Nginx::start(&dir.join("nginx"))?;
    let first = dir.join("first.txt");
    std::fs::write(&first, format!("http://{}/first\n", nginx.address()))?;
    let mesh = Mesh::start(&dir.join("mesh"), &first, 10, 3).await?;

    let file = dir.join("rows.csv");
    let mut text = "url,site,every_s\n".to_owned();
    for row in 0..ROWS {
        text.push_str(&match row {
            17 => "ftp://example.org/,seventeen,60\n".to_owned(),
            4_242 => format!("http://{}/{row},bulk,7\n", nginx.address()),
            9_999 => "not a url at all\n".to_owned(),
            _ => format!("http://{}/{row},bulk,300\n", nginx.address()),
        });
    }
    std::fs::write(&file, text)?;
    let picket = |args: &[&str]| -> anyhow::Result<(i32, String, String)> {
        let output = Command::new(picket_load::real::program("picket")?)
            .args(["--server", &format!("http://{}", mesh.api().authority)])
            .arg("--token-file")
            .arg(dir.join("mesh/admin.token"))
            .args(args)
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            output.status.code().context("it ended by itself")?,
            text(&output.stdout),
            text(&output.stderr),
        ))
    };
    let shown = file.display().to_string();

    let (code, said, _) = picket(&["import", &shown])?;
    ensure!(code == 8, "exit code {code}: {said}");
    ensure!(
        said.starts_with("9997 endpoints created") && said.contains("3 rejected"),
        "{said}"
    );
    let rejects = std::fs::read_to_string(dir.join("rows.csv.rejects"))?;
    for told in [
        "# line 19: url: ",
        "# line 4244: every_s: ",
        "# line 10001: row: ",
    ] {
        ensure!(
            rejects.contains(told),
            "the rejects file lacks `{told}`:\n{rejects}"
        );
    }
    ensure!(
        rejects.lines().count() == 7,
        "a header, and a reason and a row for each:\n{rejects}"
    );

    // The same again changes nothing; a file that is not there has a code of its own.
    let (_, again, _) = picket(&["import", &shown])?;
    ensure!(
        again.starts_with("0 endpoints created, 0 changed, 9997 unchanged"),
        "{again}"
    );
    let (code, _, told) = picket(&["import", "no-such-file.csv"])?;
    ensure!(
        code == 1 && told.contains("no-such-file.csv"),
        "{code}: {told}"
    );
    let (code, _, told) = picket(&["endpoint", "get", "end_999999999"])?;
    ensure!(code == 3, "{code}: {told}");

    let status = picket_load::real::mesh::wait_for(
        "all checks to be owned",
        std::time::Duration::from_secs(30),
        async || {
            let status: MeshStatus = mesh.status().await?;
            let owned = status.checks == u64::try_from(ROWS - 2)? && status.unowned_checks == 0;
            Ok(if owned {
                Ok(status)
            } else {
                Err(format!(
                    "{} checks, {} without owner",
                    status.checks, status.unowned_checks
                ))
            })
        },
    )
    .await?;
    ensure!(
        status.regions.iter().all(|region| region.checks > 2_000),
        "{:?}",
        status.regions
    );
    mesh.stop().await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
