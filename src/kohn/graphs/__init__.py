"""Represent structures as graphs: padded rows of neighbours, batches of fixed shape, gathers."""

from kohn.graphs.batching import Graph as Graph
from kohn.graphs.batching import Shape as Shape
from kohn.graphs.batching import Waste as Waste
from kohn.graphs.batching import collate as collate
from kohn.graphs.batching import fitting_shape as fitting_shape
from kohn.graphs.batching import needed_shape as needed_shape
from kohn.graphs.batching import plan_shapes as plan_shapes
from kohn.graphs.batching import species_index as species_index
from kohn.graphs.batching import waste as waste
from kohn.graphs.gather import gather_neighbours as gather_neighbours
from kohn.graphs.gather import select_columns as select_columns
from kohn.graphs.gather import sum_over_reverse as sum_over_reverse
from kohn.graphs.gather import take_reverse as take_reverse
from kohn.graphs.neighbours import Neighbourhood as Neighbourhood
from kohn.graphs.neighbours import check_geometry as check_geometry
from kohn.graphs.neighbours import neighbourhood as neighbourhood
from kohn.graphs.neighbours import pairs_within as pairs_within
from kohn.graphs.verlet import Topology as Topology
from kohn.graphs.verlet import Verlet as Verlet
from kohn.graphs.verlet import growing_shape as growing_shape
from kohn.graphs.verlet import ladder_shape as ladder_shape
