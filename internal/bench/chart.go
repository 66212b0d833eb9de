package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

const (
	chartColumns = 2
	chartColumn  = 480 // wide
	chartLeft    = 92  // where bars begin
	chartRight   = 64  // for the figures beside them
	chartTop     = 74
	chartMost    = 2.5 // times raw is where a bar is cut, so that short ones can be told apart
	chartScale   = (chartColumn - chartLeft - chartRight) / chartMost
	barHeight    = 11
	barStep      = 14
	groupSpace   = 44
)

// A chartGroup is the bars of one scenario.
type chartGroup struct {
	title, note string
	bars        []chartBar
}

type chartBar struct {
	name   string
	ratio  float64 // to the raw server
	figure string  // written beside it
}

// chart draws what a message costs each server, or what the scenario counts
// where that is not known, on one scale: the raw server is 1 everywhere. It
// carries colours for light and for dark pages and needs nothing else. Of what is
// measured only when it is asked for there is too much for a picture: it is left
// out beside other scenarios.
func chart(results []*result) string {
	usual := slices.DeleteFunc(slices.Clone(results), func(r *result) bool {
		return slices.ContainsFunc(matrix(), func(s *scenario) bool { return s.Name == r.scenario.Name })
	})
	if len(usual) > 0 {
		results = usual
	}
	var groups []chartGroup
	for _, r := range results {
		if g := newChartGroup(r); len(g.bars) > 0 {
			groups = append(groups, g)
		}
	}
	b := new(strings.Builder)
	y := chartTop
	for len(groups) > 0 {
		row := groups[:min(chartColumns, len(groups))]
		groups = groups[len(row):]
		bars := 0
		for i, g := range row {
			g.draw(b, i*chartColumn, y)
			bars = max(bars, len(g.bars))
		}
		y += bars*barStep + groupSpace
	}
	y -= groupSpace / 2
	width := chartColumns * chartColumn
	return fmt.Sprintf(chartHead, width, y, width, y) + b.String() + "</svg>\n"
}

func newChartGroup(r *result) chartGroup {
	g := chartGroup{title: r.scenario.Title}
	for _, o := range r.Outcomes {
		if q := r.cpuToRaw(o); q.rounds > 0 {
			g.bars = append(g.bars, chartBar{o.Server, q.median, fmt.Sprintf("%.2f", q.median)})
		}
	}
	if len(g.bars) > 0 {
		return g
	}
	g.note = r.scenario.unit()
	if !r.scenario.lessIsBetter() {
		g.note += ", longer is better"
	}
	for _, o := range r.Outcomes {
		if q := paired(o, r.find(raw()), value, false); q.rounds > 0 {
			g.bars = append(g.bars, chartBar{o.Server, q.median, number(medianOf(o, value))})
		}
	}
	return g
}

// draw draws the group at x, y.
func (g chartGroup) draw(b *strings.Builder, x, y int) {
	fmt.Fprintf(b, `<text class="title" x="%d" y="%d">%s</text>`+"\n", x+8, y, html.EscapeString(g.title))
	if g.note != "" {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", x+chartColumn-8, y, html.EscapeString(g.note))
	}
	left := x + chartLeft
	top := y + 8
	words := new(strings.Builder) // above the line
	y = top
	for _, bar := range g.bars {
		class := "peer"
		switch bar.name {
		case own():
			class = "own"
		case raw():
			class = "raw"
		}
		width := tenth(min(bar.ratio, chartMost) * chartScale)
		base := y + barHeight - 1
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%g" height="%d"/>`+"\n", class, left, y, width, barHeight)
		if bar.ratio > chartMost {
			at := left + int(width) - 14
			fmt.Fprintf(b, `<path d="M%d %dl5 %dh5l-5 %dz"/>`+"\n", at, y+barHeight, -barHeight, barHeight)
		}
		fmt.Fprintf(words, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-6, base, html.EscapeString(bar.name))
		fmt.Fprintf(words, `<text x="%g" y="%d">%s</text>`+"\n", float64(left)+width+5, base, html.EscapeString(bar.figure))
		y += barStep
	}
	one := float64(left) + tenth(chartScale)
	fmt.Fprintf(b, `<line x1="%g" y1="%d" x2="%g" y2="%d"/>`+"\n", one, top-3, one, y)
	b.WriteString(words.String())
}

func tenth(x float64) float64 { return math.Round(x*10) / 10 }

const chartHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="11">
<style>
.page, path { fill: #fff } text { fill: #24292f; stroke: #fff; stroke-width: 3; paint-order: stroke } .title { font-weight: bold } line { stroke: #24292f; stroke-dasharray: 3 3 }
.own { fill: #c8402f } .peer { fill: #7d9bb8 } .raw { fill: #b5bac0 }
@media (prefers-color-scheme: dark) {
.page, path { fill: #0d1117 } text { fill: #e6edf3; stroke: #0d1117 } line { stroke: #e6edf3 }
.own { fill: #f0705c } .peer { fill: #4f7091 } .raw { fill: #59616b }
}
</style>
<rect class="page" width="100%%" height="100%%"/>
<text class="title" x="8" y="22" font-size="14">CPU time of the server for each message; shorter is better</text>
<text x="8" y="42">The raw server, which knows nothing of WebSocket, is 1.00: the dashed line. Broken bars are longer than drawn.</text>
`
