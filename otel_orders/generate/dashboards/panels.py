"""Panels, as our dashboards ask for them: a question, its unit, and what to do when the answer looks bad.

Pure.  Built by Grafana's own SDK, of the extra `generate`; knows no lifecycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model

from otel_orders.generate.dashboards.queries import Query, instants, prometheus, ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.variants import Dataquery

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
ALL: Final = 24
"""The columns of Grafana's grid."""


class Question(NamedTuple):
    """What a panel is for.

    title: a question.  unit: Grafana's name of it.  look: what to do when the answer looks bad.  alerts: names of those
    that watch the same.  width, height: in cells of the grid.
    """

    title: str
    unit: str
    look: str
    alerts: tuple[str, ...] = ()
    width: int = 12
    height: int = 8


class Panel(NamedTuple):
    """A panel, and the question that it answers."""

    asks: Question
    built: model.Panel


class Limits(NamedTuple):
    """From where on a value is worth a look, and bad; below them where a low one is bad."""

    warn: float
    bad: float

    def steps(self) -> list[model.Threshold]:
        """Return the colours from the lowest value up."""
        if self.bad >= self.warn:
            return [_step(None, GREEN), _step(self.warn, YELLOW), _step(self.bad, RED)]
        return [_step(None, RED), _step(self.bad, YELLOW), _step(self.warn, GREEN)]


def lines(
    asks: Question,
    *queries: Query,
    limits: Limits | None = None,
    stacked: bool = False,
    logarithmic: bool = False,
    styles: Mapping[str, Mapping[str, object]] | None = None,
) -> Panel:
    """Return values over time.  logarithmic: where they differ too much for one scale.  styles: of lines, by legend."""
    look = timeseries.Panel().show_points(common_model.VisibilityMode.NEVER).line_width(2)
    look.legend(_legend(common_model.LegendPlacement.BOTTOM)).tooltip(_all_series())
    look.fill_opacity(60 if stacked else 10).axis_soft_min(0)
    if stacked:
        look.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    if logarithmic:
        look.scale_distribution(common.ScaleDistributionConfig().type(common_model.ScaleDistribution.LOG).log(10))
    for legend, properties in (styles or {}).items():
        look.override_by_name(legend, [model.DynamicConfigValue(name, value) for name, value in properties.items()])
    if limits:
        look.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    return asked(asks, look.build(), ranges(queries), limits)


def bars(asks: Question, *queries: Query, limits: Limits | None = None) -> Panel:
    """Return what is now, a bar for each series, in the order of the queries."""
    look = bargauge.Panel().orientation(common_model.VizOrientation.HORIZONTAL)
    look.display_mode(common_model.BarGaugeDisplayMode.BASIC).reduce_options(_last()).min(0)
    return asked(asks, look.build(), instants(queries), limits, BLUE)


def numbers(
    asks: Question, *queries: Query, limits: Limits | None = None, named: Sequence[tuple[int, str, str]] = ()
) -> Panel:
    """Return what is now, as large numbers.  named: as in states()."""
    look = stat.Panel().reduce_options(_last()).color_mode(common_model.BigValueColorMode.VALUE)
    look.graph_mode(common_model.BigValueGraphMode.NONE).text_mode(common_model.BigValueTextMode.VALUE_AND_NAME)
    if named:
        look.mappings([meaning(named)])
    return asked(asks, look.build(), instants(queries), limits, BLUE)


def heat(asks: Question, query: Query) -> Panel:
    """Return how often which value was, over time; *query* has buckets by `le`."""
    look = heatmap.Panel().calculate(calculate=False).y_axis(heatmap.YAxisConfig().unit(asks.unit))
    look.color(heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    look.cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9))
    return asked(asks, look.build(), [prometheus(query, 0).format(query.HEATMAP)])


def states(asks: Question, *queries: Query, named: Sequence[tuple[int, str, str]]) -> Panel:
    """Return which state each series was in.  named: values, what they mean, and their colours."""
    look = statetimeline.Panel().merge_values(merge_values=True).show_value(common_model.VisibilityMode.AUTO)
    look.legend(_legend(common_model.LegendPlacement.BOTTOM)).row_height(0.9).fill_opacity(80)
    look.mappings([meaning(named)])
    return asked(asks, look.build(), ranges(queries))


def meaning(named: Iterable[tuple[int | str, str, str]]) -> model.ValueMap:
    """Return what values mean: each with its word and colour."""
    results = {
        str(value): model.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, text, color) in enumerate(named)
    }
    return model.ValueMap(results)


def asked(
    asks: Question,
    built: model.Panel,
    targets: Sequence[Builder[Dataquery]],
    limits: Limits | None = None,
    plain: str = GREEN,
) -> Panel:
    """Give a panel what all have.  plain: its colour where it has no limits."""
    built.title, built.description = asks.title, asks.look
    built.targets = [target.build() for target in targets]
    built.field_config = built.field_config or model.FieldConfigSource()
    defaults = built.field_config.defaults
    defaults.unit, defaults.no_value = asks.unit, "nothing"
    steps = limits.steps() if limits else [_step(None, plain)]
    defaults.thresholds = model.ThresholdsConfig(model.ThresholdsMode.ABSOLUTE, steps)
    return Panel(asks, built)


def _step(value: float | None, color: str) -> model.Threshold:
    return model.Threshold(value, color)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)


def _legend(placement: common_model.LegendPlacement) -> common.VizLegendOptions:
    shown = common.VizLegendOptions().show_legend(show_legend=True).placement(placement)
    return shown.display_mode(common_model.LegendDisplayMode.LIST)


def _all_series() -> common.VizTooltipOptions:
    return (
        common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING)
    )
