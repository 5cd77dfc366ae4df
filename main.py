"""The published command line: ``python main.py --config cfgs/... --exp_name NAME [flags]``."""

from pointpeft.compat.command.program import main

if __name__ == "__main__":
    main()
