"""`python -m serving.model_server --port=8500 --model_name=music --model_base_path=/models/music`"""

import sys

from serving.model_server.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
