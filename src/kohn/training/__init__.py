"""Train models: settings, losses, batches, the loop, checkpoints."""

from kohn.training.settings import TrainSettings as TrainSettings
from kohn.training.settings import read_settings as read_settings
from kohn.training.settings import template as template
from kohn.training.train import train as train
