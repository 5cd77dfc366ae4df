"""A page that classifies dropped files in the browser of its visitor; nothing is uploaded.

npm pack onnxruntime-web && tar xzf onnxruntime-web-*.tgz
python examples/browser_page.py my_shapes runs/example package site
python -m http.server --directory site
"""

import sys

import pointpeft as pp

if __name__ == "__main__":
    shapes, output, runtime, site, *overrides = sys.argv[1:]
    values = {"data.source": shapes, "method": "svm"}
    config = pp.load_config(pp.FinetuneConfig, values=values, overrides=overrides)
    pp.finetune(config, output)

    page = pp.export(output, site, format="web", runtime=runtime)
    print(f"{page.path}: {page.num_bytes / 1e6:.1f} MB, differs by {page.difference:.1g}")
