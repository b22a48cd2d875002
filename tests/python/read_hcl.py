"""Prints a file of HCL as JSON; quotes of strings stay. Used by tests/tests/az.rs; the packages are those of hcl2.txt beside it."""

import json
import sys

import hcl2

with open(sys.argv[1], encoding="utf-8") as file:
    print(json.dumps(hcl2.load(file)))
