from .download import pull as pull
from .upload import Shared as Shared
from .upload import push as push
