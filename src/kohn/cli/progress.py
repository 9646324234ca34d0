"""Show progress on stderr, with a bar for each kind of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console

from kohn.progress import Progress


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Show a bar for each kind of work; bars without a total end when the next work begins."""
    bars = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bars:
        tasks: dict[str, rich_progress.TaskID] = {}
        endless: list[str] = []

        def work(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                while endless:
                    bars.remove_task(tasks.pop(endless.pop()))
                tasks[what] = bars.add_task(what, total=total)
                endless.extend([what] if total is None else [])
            bars.advance(tasks[what], done)

        yield Progress(work)


@contextmanager
def bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar for one kind of work, and yield a function that advances it."""
    with progress_bars(console) as progress:
        progress.work(what, 0, total)
        yield progress.of(what, total)
