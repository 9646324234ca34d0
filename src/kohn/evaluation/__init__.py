"""Compare predictions of models with the labels of structures."""

from kohn.evaluation.evaluate import evaluate as evaluate
from kohn.evaluation.metrics import Errors as Errors
from kohn.evaluation.metrics import Evaluation as Evaluation
from kohn.evaluation.metrics import errors_of as errors_of
from kohn.evaluation.metrics import in_units as in_units
